package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/internal/cli/documents"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/importer"
	"github.com/external-lb/external-lb/internal/importer/metallb"
)

func newImportMetalLB() *cobra.Command {
	var i importing
	cmd := &cobra.Command{
		Use:   "metallb",
		Short: "Print the manifests that carry on what MetalLB does",
		Long: `Read MetalLB's IPAddressPools and advertisements and the Services that it serves, in the
cluster of the kubeconfig or in manifests, and print what carries them on: the Balancer,
AddressPools, and annotations of Services with which they keep their addresses. They are
for kubectl apply --server-side: of a Service only what changes is printed.`,
		Example: `  external-lb import metallb --host lb1=192.0.2.5 > edge.yaml
  external-lb import metallb -f metallb/ -f services.yaml --host lb1=192.0.2.5 --interface eth0 --router-id 76`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return i.metallb(cmd) },
	}
	i.flags(cmd, engines.Table.Default())
	cmd.Flags().StringArrayVarP(&i.manifests, "filename", "f", nil, "file or directory of manifests, in place of a cluster; may be repeated")
	return cmd
}

func (i *importing) metallb(cmd *cobra.Command) error {
	options, err := i.options()
	if err != nil {
		return err
	}
	var objects []metallb.Object
	var cluster *importer.Cluster
	if len(i.manifests) > 0 {
		if objects, err = metallbFiles(i.manifests); err == nil {
			cluster, err = i.cluster(cmd.Context())
		}
	} else {
		objects, cluster, err = i.metallbCluster(cmd.Context())
	}
	if err != nil {
		return err
	}
	result, err := metallb.Make(objects, cluster.Services, *options)
	if err != nil {
		return err
	}
	return printImported(result, cmd.OutOrStdout(), cmd.ErrOrStderr())
}

// metallbFiles finds MetalLB's objects among manifests.
func metallbFiles(paths []string) (out []metallb.Object, err error) {
	for _, path := range paths {
		files, err := manifestFiles(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			for _, d := range documents.Split(data) {
				found, err := metallbDocument(d, importer.Place{File: file, Line: d.Line})
				if err != nil {
					return nil, err
				}
				out = append(out, found...)
			}
		}
	}
	return out, nil
}

// metallbDocument has one object, or a List of some.
func metallbDocument(d documents.Document, at importer.Place) (out []metallb.Object, err error) {
	data, err := yaml.YAMLToJSONStrict(d.Data)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", at, parseError(d, err))
	}
	var h head
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	if h.GroupVersionKind().Group == metallb.Group && len(h.Items) == 0 {
		return []metallb.Object{{Place: at, Data: data}}, nil
	}
	for _, item := range h.Items {
		var of head
		if err := json.Unmarshal(item, &of); err == nil && of.GroupVersionKind().Group == metallb.Group {
			out = append(out, metallb.Object{Place: at, Data: item})
		}
	}
	return out, nil
}

// metallbCluster asks an API server. Kinds that it does not have are none.
func (i *importing) metallbCluster(ctx context.Context) ([]metallb.Object, *importer.Cluster, error) {
	kube, err := i.server.client()
	if err != nil {
		return nil, nil, fmt.Errorf("%w; or say with -f where the manifests are", err)
	}
	var out []metallb.Object
	for _, kind := range metallb.Kinds {
		found, err := askMetalLB(ctx, kube, kind)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, found...)
	}
	cluster, err := askServices(ctx, kube)
	return out, cluster, err
}

func askMetalLB(ctx context.Context, kube client.Reader, kind string) (out []metallb.Object, err error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: metallb.Group, Version: "v1beta1", Kind: kind + "List"})
	if err := kube.List(ctx, list); meta.IsNoMatchError(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("asking the API server: %w", err)
	}
	for _, item := range list.Items {
		data, err := item.MarshalJSON()
		if err != nil {
			return nil, err
		}
		at := importer.Place{File: kind + " " + item.GetNamespace() + "/" + item.GetName()}
		out = append(out, metallb.Object{Place: at, Data: data})
	}
	return out, nil
}
