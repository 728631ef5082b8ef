// Renders a template as Ollama does: messages and tools from JSON, the function json, Go's text/template.
package main

import (
	"encoding/json"
	"os"
	"text/template"
)

type function struct {
	Name        string
	Description string
	Arguments   map[string]any
	Parameters  struct {
		Properties map[string]struct {
			Type any
			Enum []any
		}
	}
}

type entry struct{ Function function }

type request struct {
	Template string
	System   string
	Tools    []entry
	Messages []struct {
		Role, Content string
		ToolCalls     []entry
	}
}

func main() {
	var requests []request
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		panic(err)
	}
	functions := template.FuncMap{"json": func(v any) string {
		data, _ := json.Marshal(v)
		return string(data)
	}}
	rendered := []string{}
	for _, r := range requests {
		var out writer
		parsed := template.Must(template.New("").Funcs(functions).Parse(r.Template))
		if err := parsed.Execute(&out, r); err != nil {
			panic(err)
		}
		rendered = append(rendered, string(out))
	}
	if err := json.NewEncoder(os.Stdout).Encode(rendered); err != nil {
		panic(err)
	}
}

type writer []byte

func (w *writer) Write(data []byte) (int, error) {
	*w = append(*w, data...)
	return len(data), nil
}
