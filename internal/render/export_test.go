package render

import (
	"reflect"
	"slices"
)

// TemplateFields are the names of what templates can print.
func TemplateFields() []string {
	var names []string
	for _, data := range []any{
		nginxService{}, nginxFrontend{}, haproxyService{}, haproxyFrontend{}, haproxyServer{}, checkProfile{},
		haproxyChecks{}, lvsService{}, lvsFrontend{}, lvsServer{}, lvsCheck{},
	} {
		t := reflect.TypeOf(data)
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && !f.Anonymous {
				names = append(names, f.Name)
			}
		}
		for i := range t.NumMethod() {
			if t != reflect.TypeFor[lvsServer]() { // whose methods are those of an address
				names = append(names, t.Method(i).Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
