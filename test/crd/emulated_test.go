//go:build !oldest

package crd

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/util/compatibility"
	base "k8s.io/component-base/compatibility"
)

// oldestMinor is the oldest that the README claims.
const oldestMinor = 30

// A rule may use what the version before knows: an API server holds new definitions to
// that, so that it can be rolled back.
func TestKindsInstallOnEachMinor(t *testing.T) {
	newest := compatibility.DefaultKubeEffectiveVersionForTest().BinaryVersion().Minor()
	for minor := uint(oldestMinor); minor <= newest; minor++ {
		t.Run(fmt.Sprintf("1.%d", minor), func(t *testing.T) {
			is := compatibility.DefaultKubeEffectiveVersionForTest()
			is.SetEmulationVersion(version.MajorMinor(1, minor))
			is.SetMinCompatibilityVersion(version.MajorMinor(1, minor-1))
			registry := compatibility.DefaultComponentGlobalsRegistry
			registry.Reset()
			if err := registry.Register(base.DefaultKubeComponent, is, nil); err != nil {
				t.Fatal(err)
			}
			install(t)
		})
	}
}
