package cli

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/provider/alibaba/alibabatest"
)

// The two commands as they are typed, with the vendor's credentials from the environment.
func TestProviderAlibaba_PassesTheCheck(t *testing.T) {
	double := alibabatest.New(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("a token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", alibabatest.Key)
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret")
	ctx, stop := context.WithCancel(t.Context())
	said, out := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		args := []string{"external-lb", "provider", "alibaba", "--listen", "127.0.0.1:0", "--token-file", token, "--endpoint", double.URL,
			"--region", "cn-hangzhou", "--vpc", "vpc-1", "--vswitch", "cn-hangzhou-a=vsw-1,cn-hangzhou-b=vsw-2", "--certificates", "shop=1234-cn-hangzhou"}
		code := Main(ctx, args, strings.NewReader(""), out, out)
		out.Close()
		ended <- code
	}()
	line, err := bufio.NewReader(said).ReadString('\n')
	at, is := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !is {
		t.Fatalf("it said %q, %v", line, err)
	}
	var result strings.Builder
	if code := Main(t.Context(), []string{"external-lb", "provider", "check", "http://" + at, "--token-file", token}, strings.NewReader(""), &result, &result); code != 0 {
		t.Error(result.String())
	}
	if !strings.Contains(result.String(), "ok  certificate:") {
		t.Errorf("no certificate was asked for:\n%s", result.String())
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("it ended with %d", code)
	}
}

func TestOffers_AreNames(t *testing.T) {
	if got, err := offered("--flavors", []string{"big=slb.s3.medium", "metered=use"}, 2); err != nil || got["big"] != "slb.s3.medium" || got["metered"] != "use" {
		t.Errorf("%v, %v", got, err)
	}
	for _, wrong := range [][]string{{"big"}, {"Big=x"}, {"a=x", "a=y"}, {"a="}, {"a=x y"}, {"a=x", "b=x", "c=x"}} {
		if got, err := offered("--flavors", wrong, 2); err == nil || !strings.Contains(err.Error(), "--flavors") {
			t.Errorf("%q: %v, %v", wrong, got, err)
		}
	}
}
