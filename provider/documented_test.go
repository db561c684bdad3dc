package provider

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The page has each type, each of its fields and no others.
func TestTheAPIIsAsDocumented(t *testing.T) {
	schemas := at(document(t), "components", "schemas")
	for name, v := range map[string]any{
		"Spec": Spec{}, "Family": Family{}, "Member": Member{}, "Listener": Listener{}, "Settings": Settings{}, "HealthCheck": HealthCheck{},
		"LoadBalancer": LoadBalancer{}, "Address": Address{}, "Refusal": Refusal{}, "Calls": Calls{}, "List": List{}, "Error": Error{},
		"Capabilities": Capabilities{}, "Support": Support{},
	} {
		var want []string
		for f := range reflect.TypeOf(v).Fields() {
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			want = append(want, tag)
		}
		properties, _ := at(schemas, name, "properties").(map[string]any)
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(properties)); !slices.Equal(got, want) {
			t.Errorf("%s: documented %v, and has %v", name, got, want)
		}
	}
}

// bounds that the page has to have, and no others: each by the schema, the way to it, and the word that bounds.
func bounds() map[string]any {
	out := map[string]any{
		"Label pattern": label.String(), "Protocol enum": words(TCP, UDP, SCTP), "IPFamily enum": words(IPv4, IPv6),
		"Port minimum": 1, "Port maximum": 65535, "Number minimum": 0, "Number maximum": maxNumber,
		"Code enum": slices.Sorted(maps.Keys(status)),

		"Spec required": words("families", "listeners", "name", "namespace"), "Family required": words("family"),
		"Member required": words("address", "weight"), "Listener required": words("nodePort", "port", "protocol"),
		"Spec additionalProperties": false, "Family additionalProperties": false, "Member additionalProperties": false, "Listener additionalProperties": false,
		"Settings additionalProperties": false, "HealthCheck additionalProperties": false,
		"Spec families minItems":                 1,
		"Spec families maxItems":                 2,
		"Spec listeners minItems":                1,
		"Spec listeners maxItems":                MaxListeners,
		"Spec affinitySeconds minimum":           0,
		"Spec affinitySeconds maximum":           maxAffinity,
		"Family sources maxItems":                MaxSources,
		"Family sources uniqueItems":             true,
		"Family members maxItems":                MaxMembers,
		"Member weight minimum":                  1,
		"Member weight maximum":                  maxWeight,
		"HealthCheck path pattern":               path.String(),
		"LoadBalancer required":                  words("name", "namespace", "service", "state"),
		"LoadBalancer if state const":            string(Live),
		"LoadBalancer then required":             words("digest"),
		"LoadBalancer state enum":                words(Pending, Live, Failed, Deleting),
		"LoadBalancer digest pattern":            sum.String(),
		"LoadBalancer addresses maxItems":        maxAddresses,
		"LoadBalancer refused maxItems":          MaxListeners,
		"LoadBalancer message maxLength":         MaxMessage,
		"LoadBalancer retryAfterSeconds minimum": 0,
		"LoadBalancer retryAfterSeconds maximum": maxRetryAfter,

		"Address required": words("family"), "Address oneOf 0 required": words("ip"), "Address oneOf 1 required": words("hostname"),
		"Address hostname maxLength": maxHostname, "Address hostname pattern": hostname.String(),
		"Refusal required": words("message", "port", "protocol", "reason"), "Refusal message maxLength": MaxMessage,
		"List required": words("loadBalancers"), "List loadBalancers maxItems": MaxPage,
		"Error required": words("code", "message"), "Error field maxLength": MaxMessage, "Error message maxLength": MaxMessage,
		"Error retryAfterSeconds minimum": 0, "Error retryAfterSeconds maximum": maxRetryAfter,

		"Capabilities required":          words("families", "name", "protocols", "settings", "version"),
		"Capabilities version maxLength": maxVersion, "Capabilities flavors maxItems": MaxFlavors, "Capabilities flavors uniqueItems": true,
		"Capabilities certificates maxItems": MaxCertificates, "Capabilities certificates uniqueItems": true,
		"Capabilities protocols minItems": 1, "Capabilities protocols uniqueItems": true,
		"Capabilities families minItems": 1, "Capabilities families uniqueItems": true,
		"Capabilities settings maxProperties": maxSettings, "Capabilities settings propertyNames pattern": setting.String(),
		"Capabilities settings required": words(AllSettings()...),
		"Unsaid required":                words("missing"), "Unsaid missing minLength": 1,
	}
	for _, c := range choices {
		out[map[string]string{"algorithm": "Settings algorithm", "mode": "Settings mode",
			"proxyProtocol.send": "Settings sendProxy", "healthCheck.type": "HealthCheck type"}[c.name]+" enum"] = words(c.values...)
	}
	for _, words := range []string{"missing", "udp", "affinity", "note"} {
		out["Support "+words+" maxLength"] = MaxMessage
	}
	return out
}

// words are sorted.
func words[W ~string](all ...W) (out []string) {
	for _, w := range all {
		out = append(out, string(w))
	}
	slices.Sort(out)
	return out
}

// Each bound of the page is one of the code, and each of the code is on the page.
func TestTheBoundsAreAsDocumented(t *testing.T) {
	got := map[string]string{}
	for name, schema := range at(document(t), "components", "schemas").(map[string]any) {
		collect(got, name, schema)
	}
	for at, bound := range bounds() {
		if want := fmt.Sprint(bound); got[at] != want {
			t.Errorf("%s: documented %q, and it is %s", at, got[at], want)
		}
		delete(got, at)
	}
	if len(got) > 0 {
		t.Errorf("documented, and not known to be bounds of the code: %v", got)
	}
}

// collect the bounds of a schema. Words that are for people, or lead on, are none.
func collect(out map[string]string, at string, schema any) {
	all, _ := schema.(map[string]any)
	for word, v := range all {
		switch word {
		case "description", "type", "$ref":
		case "properties":
			for name, property := range v.(map[string]any) {
				collect(out, at+" "+name, property)
			}
		case "items", "additionalProperties":
			if bound, is := v.(bool); is {
				out[at+" "+word] = fmt.Sprint(bound)
			}
			collect(out, at, v)
		case "if", "then", "propertyNames":
			collect(out, at+" "+word, v)
		case "oneOf":
			for i, one := range v.([]any) {
				collect(out, fmt.Sprintf("%s %s %d", at, word, i), one)
			}
		case "enum", "required":
			out[at+" "+word] = fmt.Sprint(strs(v))
		case "maximum", "minimum", "maxItems", "minItems", "maxLength", "minLength", "maxProperties":
			out[at+" "+word] = fmt.Sprint(int(v.(float64)))
		default: // also a word that nobody has thought of yet
			out[at+" "+word] = fmt.Sprint(v)
		}
	}
}

// Which settings v1 has no words for is on the page, and so are the status of each code and what no schema can say.
func TestTheRestIsAsDocumented(t *testing.T) {
	doc := document(t)
	properties, _ := at(doc, "components", "schemas", "Capabilities", "properties", "settings", "properties").(map[string]any)
	if got := slices.Sorted(maps.Keys(properties)); !slices.Equal(got, words(Unsaid...)) {
		t.Errorf("documented as Unsaid: %v, and it is %v", got, words(Unsaid...))
	}
	text := fmt.Sprint(at(doc, "info", "description"))
	for _, want := range []string{
		fmt.Sprintf("%d MiB at most, an answer %d MiB", MaxBody>>20, MaxAnswer>>20), "150,000 values", "has 256 bytes", "20,000 load balancers", "50,000 refused",
		"30000 to 32767", "10256",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if maxValues != 150_000 || MaxMessage != 256 || MaxList != 20_000 || MaxRefused != 50_000 || kubeProxyHealth != 10256 {
		t.Error("the page says other numbers")
	}
	said := strings.Join(strings.Fields(fmt.Sprint(at(doc, "components", "responses", "Error", "description"))), " ")
	said = strings.NewReplacer("AddressTaken and Immutable 409", "AddressTaken 409, Immutable 409").Replace(said)
	for code, status := range status {
		if want := fmt.Sprintf("%s %d", code, status); !strings.Contains(said, want) {
			t.Errorf("the page does not say %q: %s", want, said)
		}
	}
}

func strs(v any) (out []string) {
	list, _ := v.([]any)
	for _, s := range list {
		out = append(out, s.(string))
	}
	slices.Sort(out)
	return out
}
