package e2e

import corev1 "k8s.io/api/core/v1"

// The node ports that tests choose, each for one test. They are of the first 86 of the
// range: the API server takes those last when it chooses, so that tests beside one another
// cannot meet (KEP-3668).
const (
	nodePortOfPolicy int32 = 30000 + iota
	nodePortKept
	nodePortOnceKept
	nodePortRecycled
	nodePortRecycledUnderLoad
	nodePortOfTCP
	nodePortOfTCPLater
	nodePortOfUDP
	nodePortOfUDPLater
	nodePortChosenLater
	nodePortOfAllA
	nodePortOfAllB
	nodePortOfOne
)

func withNodePort(nodePort int32) option {
	return func(svc *corev1.Service) {
		withPort("http", corev1.ProtocolTCP, 80, 8080)(svc)
		svc.Spec.Ports[0].NodePort = nodePort
	}
}
