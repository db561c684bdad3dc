package nginx

import (
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
		!slices.Equal(got.dirs, []string{"m/*.conf"}) || got.stream != "/etc/nginx/m/b.conf" || got.http != "/etc/nginx/nginx.conf" || len(got.included) != 3 {
		t.Errorf("%+v", got)
	}
}

// What the http block includes is told from what others do.
func TestReadOwnersConf_HTTPBlock(t *testing.T) {
	got := readOwnersConf("# configuration file /a:\nhttp {\n  server { include inner/*; }\n  include conf.d/*.conf;\n}\nstream { include other/*; }\ninclude end/*;\n", "/a")
	if !slices.Equal(got.httpDirs, []string{"conf.d/*.conf"}) || !slices.Equal(got.dirs, []string{"end/*"}) || got.http != "/a" || got.stream != "/a" {
		t.Errorf("%+v", got)
	}
}

// A brace or a semicolon in quotes is a word: logs are often written as JSON.
func TestWithin_QuotedBracesAreWords(t *testing.T) {
	const text = "http { log_format json '{' '\"a\": 1}'; }\nmap '}' ';' {}\nstream '{';\n"
	got := within(text+"stream {\n}\n", "stream", "x;")
	if want := text + "stream {\n    x;\n}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
