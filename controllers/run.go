package controllers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/provider/transport"
	"github.com/external-lb/external-lb/internal/ui"
)

// Options of a controller.
type Options struct {
	// Namespace in which the Secrets with the hosts' keys and the Lease are.
	Namespace string
	// LeaderElection lets one of several replicas work.
	LeaderElection bool
	// TLSSecrets lets policies name Secrets with certificates, in any namespace: it
	// takes the right to read them (config/components/tls).
	TLSSecrets bool
	// MetricsAddress and HealthAddress to serve on; "0" for none.
	MetricsAddress, HealthAddress string
	// UI is the manager's page for browsers.
	UI ui.Managed
	// Local connects to the agent of this machine, for hosts that are local: {}.
	Local deliver.Dialer
	// Dialer connects to all other hosts; nil: over SSH.
	Dialer deliver.Dialer
	Log    logr.Logger
}

// leaseName is the Lease of the leader election.
const leaseName = "external-lb"

// Scheme knows every kind that the controller reads or writes.
func Scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err) // two packages claim one kind: a build that can never work
		}
	}
	return scheme
}

// Run works until the context ends, until another replica takes the lead, or until the
// cluster was restored from a backup.
func Run(ctx context.Context, config *rest.Config, o Options) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's priority and fairness is the one throttle
	leader, lock, err := leadership(config, o)
	if err != nil {
		return err
	}
	renewed := &renewals{Interface: lock, restored: func() { end(errRestored) }}
	if lock != nil {
		lock = renewed
		config.Wrap(renewed.leading) // after the Lease has its client
	}
	watches := newWatches()
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                              Scheme(),
		MapperProvider:                      mapper,
		Logger:                              o.Log,
		Metrics:                             server.Options{BindAddress: o.MetricsAddress, FilterProvider: fewMetrics},
		HealthProbeBindAddress:              o.HealthAddress,
		LeaderElection:                      o.LeaderElection,
		LeaderElectionResourceLockInterface: lock,
		LeaderElectionReleaseOnCancel:       true,
		LeaseDuration:                       ptr.To(leaseDuration),
		RenewDeadline:                       ptr.To(renewDeadline),
		Cache:                               cacheOptions(o, watches),
		// Names need to be unique within one manager only; Run may be called again.
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true), CacheSyncTimeout: firstLook},
	})
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	leader.reader, leader.writer = mgr.GetAPIReader(), mgr.GetClient()
	metrics := newMetrics(mgr.Elected())
	fleet, err := setup(ctx, mgr, leader, metrics, watches, o)
	if err != nil {
		return err
	}
	defer fleet.Close()
	metrics.traffic.hosts = fleet
	defer metrics.unregister()
	if err := metrics.register(); err != nil {
		return err
	}
	if err := errors.Join(addChecks(mgr, renewed), addPage(mgr, fleet, o)); err != nil {
		return err
	}
	err = mgr.Start(ctx)
	if errors.Is(context.Cause(ctx), errRestored) {
		return errRestored
	}
	return err
}

// firstLook is how long the first look at all objects may take. Who gives up has to begin anew.
const firstLook = 30 * time.Minute

// addChecks of liveness and readiness.
func addChecks(mgr ctrl.Manager, renewed *renewals) error {
	ready := &synced{}
	return errors.Join(
		mgr.Add(ready),
		mgr.AddReadyzCheck("caches", ready.check),
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddHealthzCheck("leader-election", renewed.check),
	)
}

// setup wires the controllers into a manager.
func setup(ctx context.Context, mgr ctrl.Manager, leader *leader, metrics *metrics, watches *watches, o Options) (*deliver.Fleet, error) {
	seen := newWritten()
	read, err := newReader(ctx, mgr.GetCache(), mgr.GetCache(), seen)
	if err != nil {
		return nil, err
	}
	read.watches = watches
	why := newCauses()
	hosts := &hostChanges{causes: why}
	teller := newEvents(mgr.GetClient(), mgr.GetScheme())
	if err := mgr.Add(teller); err != nil {
		return nil, err
	}
	fleet := deliver.NewFleet(deliver.Options{
		Leader:  leader,
		Local:   o.Local,
		Dialer:  o.Dialer,
		Changed: hosts.changed,

		Providers: transport.Dialer{Asked: metrics.asked},
		Log:       o.Log.WithName("deliver"),
		Metrics:   metrics,
	})
	certs := &certificates{reader: read, content: mgr.GetAPIReader(), allowed: o.TLSSecrets}
	balancers := &balancerReconciler{
		client:    mgr.GetClient(),
		reader:    read,
		patch:     patchServices{mgr.GetClient(), seen, newSetbacks(), teller, mgr.GetAPIReader()},
		events:    teller,
		leader:    leader,
		fleet:     fleet,
		certs:     certs,
		metrics:   metrics,
		pace:      &pace{causes: why, last: map[string]time.Time{}},
		namespace: o.Namespace,
		memory:    map[string]*memory{},
		unclaimed: map[string]map[types.UID]time.Time{},
	}
	if err := balancers.setup(mgr, hosts); err != nil {
		return nil, err
	}
	if err := readPods(mgr, read, &podChanges{balancers.pace, concerns{read}, hosts}); err != nil {
		return nil, err
	}
	policies := &policyReconciler{
		reader: read, events: teller, certs: certs, statuses: ownStatuses{mgr.GetClient(), teller, newSetbacks()},
	}
	return fleet, policies.setup(mgr)
}

// readPods is for when a Balancer sends to pods.
func readPods(mgr ctrl.Manager, r reader, changes *podChanges) error {
	config := rest.CopyConfig(mgr.GetConfig())
	config.ContentType = runtime.ContentTypeProtobuf
	client, err := corev1client.NewForConfigAndClient(config, mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	r.pods.client, r.pods.changed, r.pods.readable = client, changes.changed, changes.readable
	return mgr.Add(r.pods)
}

// leadership prepares the leader election and what hosts are told of it.
func leadership(config *rest.Config, o Options) (*leader, resourcelock.Interface, error) {
	key := client.ObjectKey{Namespace: o.Namespace, Name: leaseName}
	if !o.LeaderElection {
		return &leader{lease: key}, nil, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return nil, nil, err
	}
	identity := name + "_" + string(uuid.NewUUID())
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, o.Namespace, leaseName,
		resourcelock.ResourceLockConfig{Identity: identity}, config, renewDeadline)
	if err != nil {
		return nil, nil, fmt.Errorf("leader election: %w", err)
	}
	return &leader{lease: key, identity: identity}, lock, nil
}

// withoutContent is a Secret of which only its name and version are known. kubectl keeps
// what is applied in an annotation.
func withoutContent(obj any) (any, error) {
	if s, ok := obj.(*corev1.Secret); ok {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion}}, nil
	}
	return obj, nil // one that is gone
}

// cacheOptions keep in memory only what is read: Secrets of our namespace, and of others the
// names and versions of those with certificates where that is wanted.
func cacheOptions(o Options, w *watches) cache.Options {
	secrets := map[string]cache.Config{o.Namespace: {}}
	if o.TLSSecrets {
		secrets[cache.AllNamespaces] = cache.Config{
			FieldSelector: fields.OneTermEqualSelector("type", string(corev1.SecretTypeTLS)), Transform: withoutContent,
		}
	}
	return cache.Options{
		DefaultTransform: stripped,
		NewInformer:      w.informer,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: secrets},
		},
	}
}
