package ui

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/lru"
)

// Path is below which a manager's page is, and which viewers must be allowed to get: it is
// no resource, so a ClusterRole names it under nonResourceURLs.
const Path = "/external-lb/ui"

const (
	yesFor       = time.Minute // until it is asked again
	noFor        = 10 * time.Second
	maxVerdicts  = 1024
	maxReviews   = 8 // at a time
	reviewTime   = 5 * time.Second
	reviewQPS    = 5 // of tokens that are not known, from one address
	reviewBurst  = 20
	maxAddresses = 1024 // whose pace is known
)

// access asks the API server who a viewer is, by the token of each request, and whether
// they may look.
type access struct {
	kube  kubernetes.Interface
	log   logr.Logger
	known *lru.Cache // verdicts, by the digest of the token
	paces *lru.Cache // of addresses that bring tokens which are not known
	busy  chan struct{}
	said  atomic.Value // string: what was logged last

	rememberYes, rememberNo time.Duration
}

func newAccess(kube kubernetes.Interface, log logr.Logger) *access {
	return &access{kube: kube, log: log, known: lru.New(maxVerdicts), paces: lru.New(maxAddresses), busy: make(chan struct{}, maxReviews),
		rememberYes: yesFor, rememberNo: noFor}
}

// verdict is who asks, or why they may not look.
type verdict struct {
	viewer string
	status int // 0: they may look
	words  string
	until  time.Time
}

// admit a request. nil admits all: who found the page may look.
func (a *access) admit(r *http.Request) verdict {
	if a == nil {
		return verdict{}
	}
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token = strings.TrimSpace(token); !found || token == "" {
		return verdict{status: http.StatusUnauthorized, words: "say who you are, by a token: Authorization: Bearer TOKEN"}
	}
	if v, known := a.remembered(token); known {
		return v
	}
	if !a.pace(r.RemoteAddr).TryAccept() {
		return verdict{status: http.StatusTooManyRequests, words: "too many tokens came from your address: try again"}
	}
	return a.review(r.Context(), token)
}

// still reports whether who was admitted may go on to look.
func (a *access) still(r *http.Request) bool {
	if a == nil {
		return true
	}
	token := strings.TrimSpace(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	v, known := a.remembered(token)
	if !known {
		v = a.review(r.Context(), token)
	}
	return v.status == 0
}

func (a *access) remembered(token string) (verdict, bool) {
	v, found := a.known.Get(sha256.Sum256([]byte(token)))
	if !found || time.Now().After(v.(verdict).until) {
		return verdict{}, false
	}
	return v.(verdict), true
}

// pace of an address.
func (a *access) pace(remote string) flowcontrol.RateLimiter {
	from := network(remote)
	if p, known := a.paces.Get(from); known {
		return p.(flowcontrol.RateLimiter)
	}
	p := flowcontrol.NewTokenBucketRateLimiter(reviewQPS, reviewBurst)
	a.paces.Add(from, p)
	return p
}

// review asks the API server. An answer is remembered, a failure is not.
func (a *access) review(ctx context.Context, token string) verdict {
	ctx, cancel := context.WithTimeout(ctx, reviewTime)
	defer cancel()
	unknown := verdict{status: http.StatusServiceUnavailable, words: "the API server does not say who you are: the manager's log says why"}
	select {
	case a.busy <- struct{}{}:
		defer func() { <-a.busy }()
	case <-ctx.Done():
		return unknown
	}
	v, err := a.ask(ctx, token)
	if err != nil {
		if said := err.Error(); a.said.Swap(said) != said {
			a.log.Info("Cannot ask who looks at the page", "error", said)
		}
		return unknown
	}
	a.said.Store("")
	v.until = time.Now().Add(a.rememberYes)
	if v.status != 0 {
		v.until = time.Now().Add(a.rememberNo)
	}
	a.known.Add(sha256.Sum256([]byte(token)), v)
	return v
}

func (a *access) ask(ctx context.Context, token string) (verdict, error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	review, err := a.kube.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return verdict{}, fmt.Errorf("whose token it is: %w", err)
	}
	if !review.Status.Authenticated {
		return verdict{status: http.StatusUnauthorized, words: "the API server does not know this token"}, nil
	}
	user := review.Status.User
	extra := map[string]authorizationv1.ExtraValue{}
	for key, value := range user.Extra {
		extra[key] = authorizationv1.ExtraValue(value)
	}
	may := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: Path, Verb: "get"},
	}}
	may, err = a.kube.AuthorizationV1().SubjectAccessReviews().Create(ctx, may, metav1.CreateOptions{})
	if err != nil {
		return verdict{}, fmt.Errorf("whether they may look: %w", err)
	}
	if !may.Status.Allowed {
		words := fmt.Sprintf("%s may not look: it takes the right to get the nonResourceURL %s", user.Username, Path)
		return verdict{status: http.StatusForbidden, words: words}, nil
	}
	return verdict{viewer: user.Username}, nil
}
