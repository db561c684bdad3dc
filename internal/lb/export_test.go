package lb

// For tests in lb_test, which use the generators of lbtest.
var (
	MaxRepeated = maxRepeated
	MaxBytes    = maxBytes
	WireType    = wireType
)

const MaxNumber = maxNumber
