"""`pretrain.lm.chat.render` once more, as templates for runtimes that render messages themselves.

Messages are OpenAI's: roles system (the first, if any), user, assistant (with `tool_calls` perhaps) and tool;
tools are JSON Schema, of which a signature keeps name, description, and each argument's type or choices. All
three must give the same bytes: keys sorted, no spaces, `<`, `>` and `&` escaped, as Go's `json.Marshal` does.
Values of arguments are strings, numbers and booleans, which all three write alike.

A template is text, so that a message which contains the name of a special token becomes that token: what
strangers write is encoded by `Tokenizer.encode_document` instead, or goes to a server with `parse_special`
off. For one's own it is a way to ask Ollama, which passes nothing else on, for a perspective:
"<|newton|>Why do apples fall?".
"""

from __future__ import annotations

from typing import Final

CHAT_TEMPLATE: Final = r"""
{%- macro json(value) -%}
{{ value | tojson | replace("<", "\\u003c") | replace(">", "\\u003e") | replace("&", "\\u0026") }}
{%- endmacro -%}
{%- set state = namespace(user=-1, result=false) -%}
{%- for message in messages -%}
{%- if message.role == "user" -%}{%- set state.user = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- if messages[0].role == "system" -%}<|system|>{{ messages[0].content }}<|end|>{%- endif -%}
{%- if tools -%}<|tools|>
{%- for tool in tools -%}
{%- if not loop.first -%}{{ "\n" }}{%- endif -%}
{"arguments":{
{%- for name, schema in (tool.function.parameters.properties or {}) | dictsort(true) -%}
{%- if not loop.first -%},{%- endif -%}
{{ json(name) }}:
{%- if schema.enum -%}[
{%- for value in schema.enum -%}
{%- if not loop.first -%},{%- endif -%}{{ json(value) }}
{%- endfor -%}]
{%- else -%}{{ json(schema.type) }}{%- endif -%}
{%- endfor -%}},
{%- if tool.function.description -%}"description":{{ json(tool.function.description) }},{%- endif -%}
"name":{{ json(tool.function.name) }}}
{%- endfor -%}<|end|>
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == "user" -%}<|user|>
{%- if perspective and loop.index0 == state.user -%}<|{{ perspective }}|>{%- endif -%}
{{ message.content }}<|end|>
{%- elif message.role == "tool" -%}<|result|>{{ message.content }}<|end|>
{%- elif message.role == "assistant" and message.tool_calls -%}
{%- for call in message.tool_calls -%}<|assistant|><|invoke|>{"arguments":
{%- if call.function.arguments is string -%}{{ call.function.arguments }}
{%- else -%}{
{%- for name, value in call.function.arguments | dictsort(true) -%}
{%- if not loop.first -%},{%- endif -%}{{ json(name) }}:{{ json(value) }}
{%- endfor -%}}
{%- endif -%},"name":{{ json(call.function.name) }}}<|end|>
{%- endfor -%}
{%- elif message.role == "assistant" -%}<|assistant|>
{%- if tools and not state.result -%}<|none|>{%- endif -%}
{{ message.content }}<|end|>
{%- elif not loop.first or message.role != "system" -%}
{{ raise_exception("roles must be user, assistant, tool, and system for the first message alone") }}
{%- endif -%}
{%- set state.result = message.role == "tool" -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
""".lstrip("\n").rstrip("\n")
"""For transformers and llama.cpp, in Jinja; `perspective` may be given beside messages and tools."""

GO_TEMPLATE: Final = r"""
{{- if .System }}<|system|>{{ .System }}<|end|>{{ end }}
{{- if .Tools }}<|tools|>
{{- range $index, $tool := .Tools }}
{{- if $index }}{{ "\n" }}{{ end }}{"arguments":{
{{- $comma := false }}
{{- range $name, $schema := $tool.Function.Parameters.Properties }}
{{- if $comma }},{{ end }}{{ $comma = true }}{{ json $name }}:
{{- if $schema.Enum }}{{ json $schema.Enum }}{{ else }}{{ json $schema.Type }}{{ end }}
{{- end }}},
{{- if $tool.Function.Description }}"description":{{ json $tool.Function.Description }},{{ end -}}
"name":{{ json $tool.Function.Name }}}
{{- end }}<|end|>
{{- end }}
{{- $result := false }}
{{- range $message := .Messages }}
{{- if eq .Role "user" }}<|user|>{{ .Content }}<|end|>
{{- else if eq .Role "tool" }}<|result|>{{ .Content }}<|end|>
{{- else if eq .Role "assistant" }}<|assistant|>
{{- if .ToolCalls }}
{{- range $index, $call := .ToolCalls }}<|invoke|>{"arguments":
{{- json $call.Function.Arguments }},"name":{{ json $call.Function.Name }}}<|end|>
{{- if gt (len (slice $message.ToolCalls $index)) 1 }}<|assistant|>{{ end }}
{{- end }}
{{- else }}{{ if and $.Tools (not $result) }}<|none|>{{ end }}{{ .Content }}<|end|>
{{- end }}
{{- end }}
{{- $result = eq .Role "tool" }}
{{- end }}<|assistant|>""".lstrip("\n")
"""For Ollama, in Go's text/template with its function `json`. Ollama takes the first text below `.ToolCalls`,
up to a brace, for the mark of a call in what the model says: here `<|invoke|>`."""
