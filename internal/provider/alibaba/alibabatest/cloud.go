// Package alibabatest is a double of Alibaba Cloud's APIs for load balancers (NLB, SLB) and instances: an HTTP server that
// speaks with the vendor's client. It follows what is published: parameters, answers, states, codes, pages, tokens. What
// it does not know it refuses. It may carry traffic, and has faults that tests ask for.
package alibabatest

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Key is the ID of the access key that requests are signed with.
const Key = "LTAI-double"

// Fault is an answer in place of what a call does.
type Fault struct {
	Status        int
	Code, Message string
	TimeLeft      int // milliseconds until the call is taken; 0: it says nothing of it
}

// Cloud is one account. Its fields are set before it is asked, or with the lock.
type Cloud struct {
	sync.Mutex
	URL      string
	Delay    time.Duration                                        // that the cloud is at work after a call
	Fault    func(action string, params map[string]string) *Fault // nil, or nil from it: none
	Absent   func(ip netip.Addr) bool                             // addresses that no instance has
	Quota    map[string]int                                       // how many there may be of "listeners" of a load balancer, "balancers"
	PageSize int                                                  // of an answer at most; 0: 100
	Calls    map[string]int                                       // by action
	Listed   func(action string, created time.Time) bool          // whether an object is listed yet; nil: it is
	Lost     func(action string) bool                             // a call is made, and its answer is an error that says nothing
	Carry    bool                                                 // traffic, on addresses of loopback

	balancers map[string]*balancer
	groups    map[string]*group
	listeners map[string]*listener
	acls      map[string]*acl
	tokens    map[string]answered
	last      int
	network   int // 127.network.0.0/16 is that of its addresses
	taken     map[string]bool
	open      map[string]*port
	wasOpen   bool // to everybody, by a list without entries
	own       []tls.Certificate
}

// url has the parameters of a call.
type url map[string]string

// object is JSON.
type object map[string]any

type answered struct {
	request string
	answer  object
}

// common is what all objects have.
type common struct {
	id, name string
	tags     map[string]string
	created  time.Time
	until    time.Time // it is at work
	leaves   bool      // then it is gone
}

func (c *common) busy() bool { return time.Now().Before(c.until) }
func (c *common) gone() bool { return c.leaves && !c.busy() }

type balancer struct {
	common
	classic          bool
	kind, vpc        string // AddressType, VpcId
	spec             string // InstanceChargeType and LoadBalancerSpec
	address          string
	off, locked, new bool
	protected        bool // from being deleted
}

type group struct {
	common
	of      string // load balancer of a classic one
	fields  url
	servers []server
}

type server struct {
	id, ip, port string
	weight       string
	until        time.Time
}

type listener struct {
	common
	of, protocol, port string
	fields             url
	stopped            bool
}

type acl struct {
	common
	entries []string
}

// doubles that were made, each with a network of its own.
var doubles atomic.Int32

// New starts one, until the test ends.
func New(t testing.TB) *Cloud {
	t.Helper()
	c := &Cloud{Delay: 5 * time.Millisecond, network: 2 + int(doubles.Add(1))%200, Calls: map[string]int{}, balancers: map[string]*balancer{}, groups: map[string]*group{},
		listeners: map[string]*listener{}, acls: map[string]*acl{}, tokens: map[string]answered{}, taken: map[string]bool{}, open: map[string]*port{}}
	s := httptest.NewServer(c)
	c.URL = s.URL
	with := httptest.NewTLSServer(nil) // it has a certificate
	with.Close()
	c.own = with.TLS.Certificates
	stop := make(chan struct{})
	var carrying sync.WaitGroup
	carrying.Go(func() { c.carry(stop) })
	t.Cleanup(func() {
		s.Close()
		close(stop)
		carrying.Wait()
	})
	return c
}

// refuse an action.
func refuse(status int, code, format string, args ...any) *Fault {
	return &Fault{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func missing(name string) *Fault {
	return refuse(400, "MissingParam."+name, "The parameter of %s is missing.", name)
}
func illegal(name string) *Fault {
	return refuse(400, "IllegalParam."+name, "The param of %s is illegal.", name)
}

func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, fault := c.serve(r)
	if fault != nil {
		w.Header().Set("Content-Type", "application/json")
		if fault.TimeLeft > 0 {
			w.Header().Set("x-ratelimit-user-api", fmt.Sprintf("Limit:100,Remain:0,TimeLeft:%d", fault.TimeLeft))
		}
		w.WriteHeader(fault.Status)
		answer = object{"Code": fault.Code, "Message": fault.Message, "HostId": r.Host}
	}
	answer = maps.Clone(answer)
	answer["RequestId"] = "CEF72CEB-54B6-4AE8-B225-F876FF7BA984"
	_ = json.NewEncoder(w).Encode(answer) // who asked may be gone
}

func (c *Cloud) serve(r *http.Request) (object, *Fault) {
	action, version := r.Header.Get("x-acs-action"), r.Header.Get("x-acs-version")
	if err := r.ParseForm(); err != nil {
		return nil, refuse(400, "InvalidParameter", "%v", err)
	}
	p := url{}
	for name := range r.Form {
		p[name] = r.Form.Get(name)
		inQuery := version != "2022-04-30" || action == "ListLoadBalancers" || action == "ListListeners" || action == "ListServerGroups" && strings.HasPrefix(name, "Tag.")
		if r.URL.Query().Has(name) != inQuery {
			return nil, refuse(400, "InvalidParameter", "%s is not where it should be.", name)
		}
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "ACS3-HMAC-SHA256 Credential="+Key+",SignedHeaders=") {
		return nil, refuse(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
	}
	c.Lock()
	defer c.Unlock()
	c.Calls[action]++
	c.sweep()
	if c.Fault != nil {
		if fault := c.Fault(action, p); fault != nil {
			return nil, fault
		}
	}
	do, known := actions[version+" "+action]
	if !known {
		return nil, refuse(404, "InvalidAction.NotFound", "Specified api is not found, please check your url and method.")
	}
	if p["RegionId"] == "" {
		return nil, missing("RegionId")
	}
	for _, value := range tags(p) {
		if strings.HasPrefix(value, "aliyun") || strings.HasPrefix(value, "acs:") || len(value) > 128 {
			return nil, illegal("Tag")
		}
	}
	key := p["ClientToken"]
	request := action + fmt.Sprint(without(p, "ClientToken"))
	if before, again := c.tokens[key]; key != "" && again {
		if before.request != request {
			return nil, refuse(400, "IdempotenceSignatureMismatch", "The idempotence token of request is same with the prev one, but the signature is different.")
		}
		return before.answer, nil
	}
	answer, fault := do(c, p)
	if fault == nil && key != "" {
		c.tokens[key] = answered{request, answer}
	}
	if c.Lost != nil && c.Lost(action) {
		return nil, refuse(500, "InternalError", "The request processing has failed due to some unknown error.")
	}
	return answer, fault
}

func without(p url, name string) url {
	p = maps.Clone(p)
	delete(p, name)
	return p
}

// sweep away what was to go and is gone.
func (c *Cloud) sweep() {
	for id, b := range c.balancers {
		if b.gone() {
			delete(c.balancers, id)
			delete(c.taken, b.address)
			maps.DeleteFunc(c.listeners, func(_ string, l *listener) bool { return l.of == id })
			maps.DeleteFunc(c.groups, func(_ string, g *group) bool { return g.of == id })
		}
	}
	maps.DeleteFunc(c.groups, func(_ string, g *group) bool { return g.gone() })
	maps.DeleteFunc(c.listeners, func(_ string, l *listener) bool { return l.gone() })
}

// make the common part of an object, at which the cloud is at work.
func (c *Cloud) make(prefix, name string, p url) common {
	c.last++
	return common{id: fmt.Sprintf("%s-%06d", prefix, c.last), name: name, tags: tags(p), created: time.Now(), until: time.Now().Add(c.Delay)}
}

// tags of a request: what is made gets them, what is listed has them.
func tags(p url) map[string]string {
	out := map[string]string{}
	for _, t := range list(p, "Tag", "Key") {
		out[t["Key"]] = t["Value"]
	}
	return out
}

// list of items that a request has, each with a part.
func list(p url, name, part string) (out []url) {
	for i := 1; ; i++ {
		prefix := name + "." + strconv.Itoa(i) + "."
		if _, there := p[prefix+part]; !there {
			return out
		}
		item := url{}
		for key, value := range p {
			if of, is := strings.CutPrefix(key, prefix); is {
				item[of] = value
			}
		}
		out = append(out, item)
	}
}

// texts of a request that has several of one name.
func texts(p url, name string) (out []string) {
	for i := 1; ; i++ {
		text, there := p[name+"."+strconv.Itoa(i)]
		if !there {
			return out
		}
		out = append(out, text)
	}
}

// listed are the objects that a request lists, in order.
func listed[T any](c *Cloud, action string, p url, all map[string]*T, of func(*T) *common, want func(*T) bool) (out []*T) {
	for _, id := range slices.Sorted(maps.Keys(all)) {
		has := true
		for key, value := range tags(p) {
			has = has && of(all[id]).tags[key] == value
		}
		if has && want(all[id]) && (c.Listed == nil || c.Listed(action, of(all[id]).created)) {
			out = append(out, all[id])
		}
	}
	return out
}

// paged is the page of a list that a request wants, and the token of the next one.
func paged[T any](c *Cloud, p url, all []T) (page []T, next string, _ *Fault) {
	size := 20
	if p["MaxResults"] != "" {
		size = number(p["MaxResults"])
	}
	if size < 1 || size > 100 {
		return nil, "", illegal("MaxResults")
	}
	if c.PageSize > 0 {
		size = min(size, c.PageSize)
	}
	from := min(number(p["NextToken"]), len(all))
	to := min(from+size, len(all))
	if to < len(all) {
		next = strconv.Itoa(to)
	}
	return all[from:to], next, nil
}

// numbered is the page of a list by its number.
func numbered[T any](c *Cloud, p url, name string, most int, all []T) (page []T, _ *Fault) {
	size, at := number(p["PageSize"]), max(number(p[name]), 1)
	if size < 1 || size > most {
		return nil, illegal("PageSize")
	}
	from := min((at-1)*size, len(all))
	return all[from:min(from+size, len(all))], nil
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

// between reports whether a number of a request is in a range, where it is there.
func between(p url, name string, from, to int) *Fault {
	if text, there := p[name]; there {
		if n, err := strconv.Atoi(text); err != nil || n < from || n > to {
			return illegal(name)
		}
	}
	return nil
}

func first(faults ...*Fault) *Fault {
	for _, f := range faults {
		if f != nil {
			return f
		}
	}
	return nil
}

func must(p url, names ...string) *Fault {
	for _, name := range names {
		if p[name] == "" {
			return missing(name)
		}
	}
	return nil
}

// actions by version and name.
var actions = func() map[string]func(*Cloud, url) (object, *Fault) {
	all := map[string]func(*Cloud, url) (object, *Fault){"2014-05-26 DescribeInstances": (*Cloud).instances}
	for name, do := range nlb {
		all["2022-04-30 "+name] = do
	}
	for name, do := range slb {
		all["2014-05-15 "+name] = do
	}
	return all
}()

// instances: each private address is one's, i-10-0-0-1 that of 10.0.0.1.
func (c *Cloud) instances(p url) (object, *Fault) {
	var ips, byID []string
	if p["PrivateIpAddresses"] != "" && json.Unmarshal([]byte(p["PrivateIpAddresses"]), &ips) != nil || p["InstanceIds"] != "" && json.Unmarshal([]byte(p["InstanceIds"]), &byID) != nil {
		return nil, refuse(400, "InvalidParameter", "it is no list")
	}
	for _, id := range byID {
		ips = append(ips, strings.ReplaceAll(strings.TrimPrefix(id, "i-"), "-", "."))
	}
	if len(ips) > 100 {
		return nil, refuse(400, "InvalidParameter", "more than 100")
	}
	all := []object{}
	for _, text := range ips {
		ip, err := netip.ParseAddr(text)
		if err != nil || c.Absent != nil && c.Absent(ip) {
			continue
		}
		all = append(all, object{"InstanceId": instance(text), "VpcAttributes": object{"VpcId": p["VpcId"], "PrivateIpAddress": object{"IpAddress": []string{text}}}})
	}
	return object{"Instances": object{"Instance": all}}, nil
}

func instance(ip string) string { return "i-" + strings.ReplaceAll(ip, ".", "-") }
