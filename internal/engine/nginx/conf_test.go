package nginx

import (
	"fmt"
	"slices"
	"testing"
)

func TestReadOwnersConf(t *testing.T) {
	dump := "# configuration file /etc/nginx/nginx.conf:\n" +
		"include m/*.conf; # stream {\nerror_log  /var/log/x.log notice;\nhttp { server { return 200 \"stream { ${x} }\"; } set $a '{'; }\n" +
		"# configuration file /etc/nginx/m/a.conf:\nload_module \"modules/ngx_stream_module.so\";\nload_module modules/ngx_http_x.so;\n" +
		"# configuration file /etc/nginx/m/b.conf:\nstream {\n"
	got := readOwnersConf(dump, "/etc/nginx/nginx.conf")
	if !slices.Equal(got.modules, []string{"load_module modules/ngx_stream_module.so;\n"}) || got.errorLog != "/var/log/x.log" ||
		!slices.Equal(got.dirs, []string{"m/*.conf"}) || got.stream == nil || *got.stream != (place{"/etc/nginx/m/b.conf", 8}) || len(got.included) != 3 {
		t.Errorf("%+v %+v", got, fmt.Sprint(got.stream))
	}
}

// A brace or a semicolon in quotes is a word: logs are often written as JSON.
func TestReadOwnersConf_QuotedBracesAreWords(t *testing.T) {
	got := readOwnersConf("# configuration file /a:\nhttp { log_format json '{' '\"a\": 1}'; }\nmap '}' ';' {}\nstream '{';\nstream {\n}\n", "/a")
	if want := (place{"/a", 75}); got.stream == nil || *got.stream != want {
		t.Errorf("the stream block is at %+v, want %+v", got.stream, want)
	}
}
