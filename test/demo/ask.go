package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/external-lb/external-lb/test/cluster"
)

// asking asks a Service once.
type asking func(context.Context) (cluster.Answer, error)

// get asks an address once from the client's machine, over a connection of its own.
func get(ctx context.Context, c *cluster.Cluster, address string) (cluster.Answer, error) {
	var answer cluster.Answer
	httpClient := c.HTTPClientFrom("client")
	httpClient.Timeout = 30 * time.Second // of a busy machine
	defer httpClient.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return answer, err
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	return answer, json.NewDecoder(response.Body).Decode(&answer)
}

func askSome(ctx context.Context, ask asking, address string) error {
	command("curl http://" + address + "/")
	for i := range 6 {
		answer, err := ask(ctx)
		if err != nil {
			return fmt.Errorf("request %d: %w", i+1, err)
		}
		say("request %d answered by %s on %s", i+1, paint(bold, answer.Pod), paint(bold, answer.Node))
	}
	return nil
}
