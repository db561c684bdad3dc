package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/aliyun/credentials-go/credentials"
	"github.com/spf13/cobra"

	cloud "github.com/external-lb/external-lb/internal/provider/alibaba"
	"github.com/external-lb/external-lb/provider"
)

// providerAlibaba are the flags of the command.
type providerAlibaba struct {
	providerServe
	kind, region, endpoint string
	switches, certificates []string
	flavors                []string
	options                cloud.Options
}

func newProviderAlibaba() *cobra.Command {
	var f providerAlibaba
	cmd := &cobra.Command{
		Use:   "alibaba",
		Short: "Answer for the load balancers of an Alibaba Cloud account",
		Long: `Answer for Alibaba Cloud's load balancers: NLB, or classic ones (CLB, once called SLB).
Credentials are found as the vendor's own tools find them: ALIBABA_CLOUD_ACCESS_KEY_ID and
ALIBABA_CLOUD_ACCESS_KEY_SECRET in the environment, the role of the machine, and others.

What it makes bears tags with the UIDs of cluster and Service. It touches nothing else.

It was tried against a double that follows the published API, never in a real account.`,
		Example: `  external-lb provider alibaba --token-file token --cert tls.crt --key tls.key --listen :8480 \
    --region cn-hangzhou --vpc vpc-bp1example --vswitch cn-hangzhou-a=vsw-bp1a,cn-hangzhou-b=vsw-bp1b --nodes 10.0.0.0/16 \
    --certificates shop=1234567-cn-hangzhou
  external-lb provider alibaba --token-file token --region cn-hangzhou --vpc vpc-bp1example --type clb
  external-lb provider alibaba --token-file token --region cn-hangzhou --vpc vpc-bp1example --type clb \
    --private --vswitch cn-hangzhou-a=vsw-bp1a --flavors small=slb.s1.small,big=slb.s3.medium,metered=use`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.serve(cmd.Context(), cmd.OutOrStdout()) },
	}
	flags := cmd.Flags()
	f.add(cmd)
	flags.StringVar(&f.kind, "type", string(cloud.NLB), "nlb: an address in each zone behind a name; clb: one address, and source ranges")
	flags.StringVar(&f.region, "region", os.Getenv("ALIBABA_CLOUD_REGION_ID"), "where load balancers are made (default: $ALIBABA_CLOUD_REGION_ID)")
	flags.StringVar(&f.options.VPC, "vpc", "", "ID of the VPC in which nodes are")
	flags.StringSliceVar(&f.switches, "vswitch", nil, "ZONE=ID of a vSwitch: two or more with nlb, one with clb and --private")
	flags.BoolVar(&f.options.Private, "private", false, "addresses of the VPC, in place of public ones")
	flags.StringVar(&f.options.Spec, "spec", "", "of a clb, as slb.s1.small, which is paid by the hour, where the account may still make such (default: paid by use)")
	flags.StringSliceVar(&f.flavors, "flavors", nil, "NAME=SPEC of a clb that Services may ask for; the spec use is paid by use (default: none)")
	flags.StringVar(&f.options.Resource, "resource-group", "", "ID of the group of resources (default: the account's)")
	flags.StringSliceVar(&f.certificates, "certificates", nil, "NAME=ID of certificates of the account, with which an nlb ends TLS for Services that ask for it (default: none)")
	flags.StringVar(&f.endpoint, "endpoint", "", "vpc: the APIs' addresses in the VPC, for a machine without a way to the internet; or the URL of another API, as that of a test")
	cmd.Flag("region").DefValue = ""
	return cmd
}

// cloudID is what the API's IDs look like.
var cloudID = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]{0,127}$`)

func (f *providerAlibaba) serve(ctx context.Context, out io.Writer) error {
	o, err := f.parse()
	if err != nil {
		return err
	}
	key, err := credentials.NewCredential(nil)
	if err != nil {
		return err
	}
	api, err := cloud.NewAPI(f.region, f.endpoint, key, http.DefaultTransport)
	if err != nil {
		return err
	}
	return f.providerServe.serve(ctx, out, func(context.Context) (provider.Cloud, error) {
		if _, err := key.GetCredential(); err != nil {
			return nil, fmt.Errorf("there are no credentials: set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET: %w", err)
		}
		return &cloud.Cloud{API: api, Options: o}, nil
	})
}

// parse the flags that belong together.
func (f *providerAlibaba) parse() (o cloud.Options, err error) {
	o = f.options
	o.Type = cloud.Type(f.kind)
	for _, one := range f.switches {
		zone, id, err := pair("--vswitch", one, "ZONE")
		if err != nil {
			return o, err
		}
		o.Zones = append(o.Zones, cloud.Zone{ID: zone, VSwitch: id})
	}
	if o.Certificates, err = offered("--certificates", f.certificates, provider.MaxCertificates); err != nil {
		return o, err
	}
	if o.Flavors, err = offered("--flavors", f.flavors, provider.MaxFlavors); err != nil {
		return o, err
	}
	switch {
	case !cloudID.MatchString(f.region):
		return o, errors.New("say --region, as cn-hangzhou")
	case !cloudID.MatchString(o.VPC):
		return o, errors.New("say --vpc: the ID of the VPC in which nodes are")
	case o.Type != cloud.NLB && o.Type != cloud.CLB:
		return o, fmt.Errorf("--type: %q is neither nlb nor clb", f.kind)
	case o.Type == cloud.NLB && len(o.Zones) < 2:
		return o, errors.New("say --vswitch for two zones or more: an nlb has an address in each")
	case o.Type == cloud.NLB && (o.Spec != "" || len(o.Flavors) > 0):
		return o, errors.New("--spec and --flavors are of --type clb: an nlb is paid by use")
	case o.Type == cloud.CLB && o.Private != (len(o.Zones) == 1):
		return o, errors.New("say one --vswitch with --type clb and --private, and none without --private")
	case o.Type == cloud.CLB && len(o.Certificates) > 0:
		return o, errors.New("--certificates is of --type nlb: a clb ends TLS of HTTP alone")
	}
	return o, nil
}

// pair of a flag's value.
func pair(flag, text, what string) (name, value string, _ error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || !cloudID.MatchString(name) || !cloudID.MatchString(value) {
		return "", "", fmt.Errorf("%s: %q is not %s=ID", flag, text, what)
	}
	return name, value, nil
}
