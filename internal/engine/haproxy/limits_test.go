package haproxy

import "testing"

func TestMaxconnOfTheSectionGlobal(t *testing.T) {
	for conf, want := range map[string][2]int{
		"global\n\tlog /dev/log local0\n\tmaxconn 2000\n\ndefaults\n\tmaxconn 10\n": {2000, 3},
		"# ours\nglobal\n    maxconn 100000\n":                                      {100000, 3},
		"global\n\tdaemon\ndefaults\n\tmaxconn 10\n":                                {0, 0},
		"global\n\t# maxconn 10\n":                                                  {0, 0},
		"global\n\tmaxconnrate 5\n":                                                 {0, 0},
		"":                                                                          {0, 0},
	} {
		if value, line := globalMaxconn(conf); [2]int{value, line} != want {
			t.Errorf("%q: %d in line %d, want %v", conf, value, line, want)
		}
	}
}
