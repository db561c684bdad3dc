package alibaba

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/provider"
)

// maxListeners of a load balancer: what an account may have without asking for more.
const maxListeners = 50

// ability is what a product can do, setting by setting.
type ability map[provider.Setting]provider.Support

// capable is what both can do.
func capable() ability {
	able := ability{}
	for _, s := range provider.AllSettings() {
		able[s] = provider.Able
	}
	able.no("Alibaba Cloud does not have it", "algorithm=Random", "algorithm=DestinationHash", "algorithm=ShortestExpectedDelay", "algorithm=NeverQueue",
		"proxyProtocol.send=V1", "proxyProtocol.accept", "timeouts.connect", "maxConnectionsPerNode", "maxConnectionsPerClient", "retries")
	able.no("this provider sets no limit", "maxConnections")
	able.no("this provider makes listeners of TCP and UDP", "mode=HTTP")
	able.no("v1 of the contract has no words for it", provider.Unsaid...)
	able.no("this provider makes IPv4 addresses", provider.DualStack)
	able.no("CLB ends TLS of HTTP alone, and this provider makes listeners of TCP: take NLB", provider.Certificates)
	for _, s := range []provider.Setting{"healthCheck.interval", "healthCheck.timeout"} {
		able[s] = provider.Support{UDP: unchecked, Note: "in whole seconds; intervals up to 50, timeouts up to 300"}
	}
	for _, s := range []provider.Setting{"healthCheck.rise", "healthCheck.fall"} {
		able[s] = provider.Support{UDP: unchecked, Note: "2 to 10"}
	}
	for _, s := range []provider.Setting{"healthCheck.type=Auto", "healthCheck.type=TCP", "healthCheck.type=HTTP", "healthCheck.http"} {
		able[s] = provider.Support{UDP: unchecked}
	}
	able["proxyProtocol.send=V2"] = provider.Support{UDP: "this provider sends it with TCP"}
	able["timeouts.idle"] = provider.Support{UDP: "flows of UDP end as the cloud likes"}
	able.note("100 at most", provider.Weights)
	return able
}

const unchecked = "this provider does not check members of UDP"

func (a ability) no(why string, of ...provider.Setting) {
	for _, s := range of {
		a[s] = provider.Support{Missing: why}
	}
}

func (a ability) note(words string, of ...provider.Setting) {
	for _, s := range of {
		support := a[s]
		support.Note = words
		a[s] = support
	}
}

func (a ability) capabilities() provider.Capabilities {
	return provider.Capabilities{Name: "alibaba", Version: "1", Settings: a, MaxListeners: maxListeners,
		Protocols: []provider.Protocol{provider.TCP, provider.UDP}, Families: []provider.IPFamily{provider.IPv4}}
}

// possible says which values a product cannot hold, of which timeouts begin at minIdle seconds.
func possible(want provider.Spec, minIdle int32, interval bool) error {
	for _, m := range want.Families[0].Members {
		if m.Weight > 100 {
			return &provider.Error{Code: provider.Unsupported, Field: string(provider.Weights), Message: fmt.Sprintf("%d: the cloud takes 100 at most", m.Weight)}
		}
	}
	for _, l := range want.Listeners {
		s := l.Settings
		check := s.HealthCheck
		checked := check.Type != provider.CheckNone && check.Type != ""
		idle := s.IdleTimeoutMilliseconds
		for field, wrong := range map[string]string{
			"timeouts.idle":        outside(l.Protocol == provider.TCP, idle, minIdle*1000, 900_000, 1000, "seconds"),
			"healthCheck.interval": outside(checked && interval, check.IntervalMilliseconds, 1000, 50_000, 1000, "seconds"),
			"healthCheck.timeout":  outside(checked, check.TimeoutMilliseconds, 1000, 300_000, 1000, "seconds"),
			"healthCheck.rise":     outside(checked, check.Rise, 2, 10, 1, "checks"),
			"healthCheck.fall":     outside(checked, check.Fall, 2, 10, 1, "checks"),
		} {
			if wrong != "" {
				return &provider.Error{Code: provider.Unsupported, Field: field, Message: fmt.Sprintf("%s: %s", l, wrong)}
			}
		}
	}
	return nil
}

func outside(counts bool, n, from, to, unit int32, of string) string {
	if !counts || n%unit == 0 && from <= n && n <= to {
		return ""
	}
	return fmt.Sprintf("the cloud takes %d to %d whole %s", from/unit, to/unit, of)
}

func seconds(milliseconds int32) string { return number(milliseconds / 1000) }

func milliseconds(seconds string) int32 { return value(seconds) * 1000 }

func number(n int32) string { return strconv.Itoa(int(n)) }

func value(text string) int32 {
	n, _ := strconv.ParseInt(text, 10, 32)
	return int32(n)
}

func reverse(words map[string]string, theirs string) string {
	for ours, word := range words {
		if word == theirs {
			return ours
		}
	}
	return theirs
}

// spelled as we do, where only the case of a word is another one.
func spelled(words map[string]string, theirs string) string {
	for _, word := range words {
		if strings.EqualFold(word, theirs) {
			return word
		}
	}
	return theirs
}

// names are a list of texts, as the API numbers them.
func names(name string, list []string) params {
	p := params{}
	for i, text := range list {
		p[name+"."+strconv.Itoa(i+1)] = text
	}
	return p
}

func same(a, b params) bool { return maps.Equal(a, b) }

func chunks[T any](all []T, n int) iter.Seq[[]T] { return slices.Chunk(all, n) }

// balancerName is for people: it begins with a letter, and is short.
func balancerName(want provider.Spec) string {
	name := "external-lb-" + want.Namespace + "-" + want.Name
	return name[:min(len(name), 80)]
}

// grouped puts what is made into the group of resources.
func (o Options) grouped(p params) params {
	if o.Resource != "" {
		p["ResourceGroupId"] = o.Resource
	}
	return p
}
