package host

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"

	"github.com/external-lb/external-lb/test/share"
)

func TestMain(m *testing.M) {
	if os.Getenv("EXTERNAL_LB_TEST_TAKER") != "" {
		takePort()
	}
	if os.Getenv(isOne) == "" {
		os.Exit(inOwnNetworks())
	}
	goleak.VerifyTestMain(m)
}

// isOne marks a process of those that share the tests.
const isOne = "EXTERNAL_LB_TEST_NETWORK"

// inOwnNetworks runs the tests in three processes, each in a network of its own: there
// they have addresses that are not loopback ones, which no host admits, and all ports
// are theirs.
func inOwnNetworks() (code int) {
	flag.Parse()
	list := exec.Command(os.Args[0])
	list.Env = append(os.Environ(), isOne+"=1")
	hands, err := share.Deal(3, ".", list)
	if err != nil {
		return share.Failed(err)
	}
	var all []share.Process
	for i, flags := range hands {
		cmd := exec.Command("unshare", append([]string{"--net", "--mount", "sh", "-ec",
			`ip link set lo up; ip addr add 198.51.100.1/32 dev lo; ip route add local 198.51.100.0/24 dev lo; exec "$@"`, "sh", os.Args[0]}, flags...)...)
		cmd.Env = list.Env
		all = append(all, share.Process{Name: fmt.Sprintf("%d of %d", i+1, len(hands)), Cmd: cmd})
	}
	return share.Run(all...)
}

// takePort is another program that listens on a port until it is ended.
func takePort() {
	l, err := net.Listen("tcp", os.Getenv("EXTERNAL_LB_TEST_TAKER"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		c.Close()
	}
}
