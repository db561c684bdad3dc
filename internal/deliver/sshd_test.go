package deliver

func servedHost() bool { return false }
