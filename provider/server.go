package provider

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Cloud makes load balancers in a cloud. Its methods do not keep anything from one call to
// the next that they could not read back, and end with their context at any line. Errors
// that are an *Error are the answer; others are Internal.
type Cloud interface {
	Capabilities(context.Context) (Capabilities, error)
	// Put takes one load balancer some steps, or all, towards a Spec. It is asked again with
	// the same one until that is what it reads back.
	Put(context.Context, ID, Spec) (Observed, error)
	// Get reads one back, or fails with NotFound.
	Get(context.Context, ID) (Observed, error)
	// Delete takes one some steps, or all, towards absence. Where nothing is left it fails
	// with NotFound.
	Delete(context.Context, ID) (Observed, error)
	// List reads all of a cluster back. The Calls of all that it returns are together those that it took.
	List(ctx context.Context, cluster string) ([]Observed, error)
}

// Observed is what was read back from a cloud.
type Observed struct {
	LoadBalancer      // without its digest and names
	Spec         Spec // as the cloud's objects have it
}

func (o Observed) answer() LoadBalancer {
	b := o.LoadBalancer
	b.Namespace, b.Name = named(o.Spec.Namespace), named(o.Spec.Name)
	if len(o.Spec.Listeners) > 0 {
		b.Digest = o.Spec.Digest()
	}
	if what := b.wrong(); what != "" { // a client would take nothing of a list that it is in
		b.State, b.Reason, b.Message = Failed, Internal, "the contract has no words for what the cloud has: "+what
		b.Digest, b.Addresses, b.Refused = "", nil, nil
	}
	return b.tidy()
}

// named is a name that the contract takes. What a cloud keeps may be none, since anybody in it can change that.
func named(name string) string {
	if !label.MatchString(name) {
		return "unknown"
	}
	return name
}

// Server answers for a Cloud: it lets nobody in without the token, and nothing through that
// is out of bounds or that the cloud cannot do. Of one load balancer it does one thing at a time.
type Server struct {
	Cloud Cloud
	Token string // that requests bear
	Admit Admit

	mu    sync.Mutex
	busy  map[ID]bool
	lists map[string]listed // by cluster
}

// listed is what a cloud had a moment ago, for the pages that follow the first.
type listed struct {
	all   []Observed
	until time.Time
}

const (
	maxBusy = 32              // load balancers that are worked on at a time
	maxWork = 2 * time.Minute // that one request may take
	paging  = time.Minute     // from the first page of a list to the last
)

// Handler answers requests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	const one = "/v1/clusters/{cluster}/loadbalancers/{service}"
	mux.HandleFunc("GET /v1/capabilities", s.with(func(r *http.Request, _ ID) (any, error) {
		return s.Cloud.Capabilities(r.Context())
	}))
	mux.HandleFunc("GET /v1/clusters/{cluster}/loadbalancers", s.with(s.list))
	mux.HandleFunc("GET "+one, s.with(func(r *http.Request, id ID) (any, error) { return answer(s.Cloud.Get(r.Context(), id)) }))
	mux.HandleFunc("PUT "+one, s.with(s.exclusive(s.put)))
	mux.HandleFunc("DELETE "+one, s.with(s.exclusive(func(r *http.Request, id ID) (any, error) {
		return answer(s.Cloud.Delete(r.Context(), id))
	})))
	mux.HandleFunc("/", s.with(func(r *http.Request, _ ID) (any, error) {
		return nil, invalid("", "there is no %.10s %.80q", r.Method, r.URL.Path)
	}))
	return mux
}

// HTTPServer is one with bounds of time and size, for Handler.
func (s *Server) HTTPServer() *http.Server {
	return &http.Server{
		Handler: s.Handler(), MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 3 * time.Minute, IdleTimeout: 2 * time.Minute,
	}
}

// ListenAndServe answers until ctx ends, and says where. Without a certificate it must be on
// loopback: the token would be read on the way.
func (s *Server) ListenAndServe(ctx context.Context, address, cert, key string, out io.Writer) error {
	at, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	if cert == "" && !at.Addr().(*net.TCPAddr).IP.IsLoopback() {
		at.Close()
		return fmt.Errorf("%s is not on loopback, where the token needs TLS: give it a certificate and a key", address)
	}
	server := s.HTTPServer()
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if _, err := fmt.Fprintln(out, "listening on", at.Addr()); err != nil {
		return err
	}
	if cert != "" {
		err = server.ServeTLS(at, cert, key)
	} else {
		err = server.Serve(at)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func answer(o Observed, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return o.answer(), nil
}

// with lets who bears the token in, and writes what comes out.
func (s *Server) with(do func(*http.Request, ID) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		id := ID{Cluster: r.PathValue("cluster"), Service: r.PathValue("service")}
		if !s.bears(r) {
			fail(w, &Error{Code: Unauthorized, Message: "the token is missing or wrong"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), maxWork)
		defer cancel()
		r = r.WithContext(ctx)
		err := id.check(r)
		var out any
		if err == nil {
			out, err = do(r, id)
		}
		if err != nil {
			fail(w, err)
			return
		}
		write(w, http.StatusOK, out)
	}
}

func (s *Server) bears(r *http.Request) bool {
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.Token))
	return found && s.Token != "" && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// exclusive keeps two requests for one load balancer apart. The second one is told at once.
func (s *Server) exclusive(do func(*http.Request, ID) (any, error)) func(*http.Request, ID) (any, error) {
	return func(r *http.Request, id ID) (any, error) {
		s.mu.Lock()
		switch {
		case s.busy[id]:
			s.mu.Unlock()
			return nil, &Error{Code: Immutable, Message: "another request for it is at work", RetryAfterSeconds: 1}
		case len(s.busy) >= maxBusy:
			s.mu.Unlock()
			return nil, &Error{Code: Throttled, Message: "too many requests are at work", RetryAfterSeconds: 1}
		case s.busy == nil:
			s.busy = map[ID]bool{}
		}
		s.busy[id] = true
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.busy, id)
		}()
		return do(r, id)
	}
}

func (s *Server) put(r *http.Request, id ID) (any, error) {
	var spec Spec
	if err := decode(r.Body, &spec); err != nil {
		return nil, err
	}
	if err := s.Admit.check(spec); err != nil {
		return nil, err
	}
	able, err := s.Cloud.Capabilities(r.Context())
	if err != nil {
		return nil, err
	}
	if err := able.check(spec); err != nil {
		return nil, err
	}
	return answer(s.Cloud.Put(r.Context(), id, spec))
}

// decode one JSON value. What it does not know it refuses: it asks for something that would
// not be done.
func decode(body io.Reader, into any) error {
	all, err := io.ReadAll(body)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return tooLarge()
	}
	if err == nil {
		err = checkValues(all)
	}
	decoder := json.NewDecoder(bytes.NewReader(all))
	decoder.DisallowUnknownFields()
	if err == nil {
		err = decoder.Decode(into)
	}
	if err == nil {
		if _, more := decoder.Token(); more == io.EOF {
			return nil
		} else if err = more; err == nil {
			err = errors.New("more than one value")
		}
	}
	return invalid("", "%.200s", err)
}

func tooLarge() error {
	return &Error{Code: TooLarge, Message: "more than " + strconv.Itoa(MaxBody) + " bytes"}
}

func (s *Server) list(r *http.Request, id ID) (any, error) {
	after := r.URL.Query().Get("after")
	all, err := s.all(r.Context(), id.Cluster, after == "")
	if err != nil {
		return nil, err
	}
	out := List{LoadBalancers: []LoadBalancer{}}
	for _, o := range all {
		if o.Service <= after || !label.MatchString(o.Service) { // what is none is nobody's
			continue
		}
		if out.More = len(out.LoadBalancers) == MaxPage; out.More {
			break
		}
		out.LoadBalancers = append(out.LoadBalancers, o.answer())
	}
	return out, nil
}

// all of a cluster, sorted by Service. Who asks for the first page has the cloud read, and the others are of that:
// else a list would cost as many readings of all as it has pages.
func (s *Server) all(ctx context.Context, cluster string, first bool) ([]Observed, error) {
	s.mu.Lock()
	l, known := s.lists[cluster]
	s.mu.Unlock()
	if known && !first && time.Now().Before(l.until) {
		return l.all, nil
	}
	all, err := s.Cloud.List(ctx, cluster)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Observed) int { return strings.Compare(a.Service, b.Service) })
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.lists, func(_ string, l listed) bool { return time.Now().After(l.until) })
	delete(s.lists, cluster)
	if len(all) > MaxPage {
		if s.lists == nil {
			s.lists = map[string]listed{}
		}
		s.lists[cluster] = listed{all, time.Now().Add(paging)}
	}
	return all, nil
}

func fail(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*Error](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e = &Error{Code: Unavailable, Message: "the cloud takes too long: " + err.Error()}
	case !ok:
		e = &Error{Code: Internal, Message: err.Error()}
	}
	said := *e
	said.Message, said.Field = clip(said.Message), clip(said.Field)
	said.RetryAfterSeconds = min(max(said.RetryAfterSeconds, 0), maxRetryAfter)
	if said.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(said.RetryAfterSeconds)))
	}
	code, known := status[said.Code]
	if !known {
		code, said.Code = http.StatusInternalServerError, Internal
	}
	write(w, code, said)
}

func write(w http.ResponseWriter, code int, what any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(what) // the client is gone
}
