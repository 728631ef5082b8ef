"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const settings = JSON.parse(document.body.dataset.settings);
  let messages = [];
  let asking = null;

  at("name").textContent = settings.name;

  for (const name of settings.models) {
    const option = document.createElement("option");
    option.value = option.textContent = name;
    at("model").append(option);
  }
  at("key-label").hidden = !settings.key;

  function tell(element, role, text, done, noted) {
    document.dispatchEvent(new CustomEvent("chat-turn", { detail: { element, role, text, done, noted } }));
  }

  function turn(role, text) {
    const element = document.createElement("article");
    const words = document.createElement("p");
    element.className = "turn " + role;
    words.dir = "auto";
    words.textContent = text;
    element.append(words);
    at("turns").append(element);
    element.scrollIntoView({ block: "nearest" });
    return [element, words];
  }

  async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line === "data: [DONE]") return;
        if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
      }
    }
  }

  async function answer(words) {
    asking = new AbortController();
    const headers = { "Content-Type": "application/json" };
    if (at("key").value) headers.Authorization = "Bearer " + at("key").value;
    const said = messages.map(({ role, content }) => ({ role, content }));
    const body = JSON.stringify({ model: at("model").value, messages: said, stream: true });
    const got = await fetch(settings.path, { method: "POST", headers, body, signal: asking.signal });
    if (!got.ok) throw new Error((await got.json()).error.message);
    let noted = null;
    for await (const event of events(got.body)) {
      if (event.error) throw new Error(event.error.message);
      noted = event.noted ?? noted;
      words.textContent += event.choices[0]?.delta?.content ?? "";
      words.scrollIntoView({ block: "end" });
    }
    return noted;
  }

  async function send() {
    const text = at("text").value.trim();
    if (!text || asking) return;
    at("text").value = "";
    const [asked] = turn("user", text);
    tell(asked, "user", text, true);
    messages.push({ role: "user", content: text, element: asked });
    const [element, words] = turn("assistant", "");
    at("stop").hidden = false;
    at("state").textContent = "answering";
    let noted = null;
    try {
      noted = await answer(words);
    } catch (error) {
      if (error.name !== "AbortError") turn("failed", error.message);
    }
    asking = null;
    at("stop").hidden = true;
    at("state").textContent = "";
    if (words.textContent) messages.push({ role: "assistant", content: words.textContent, element });
    else {
      element.remove();
      messages.pop();
    }
    tell(element, "assistant", words.textContent, true, noted);
    at("text").focus();
  }

  document.addEventListener("chat-forget", ({ detail }) => {
    messages = messages.filter(({ element }) => !detail.elements.includes(element));
    for (const element of detail.elements) element.remove();
  });
  at("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  at("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  at("stop").addEventListener("click", () => asking?.abort());
  at("new").addEventListener("click", () => {
    asking?.abort();
    messages = [];
    at("turns").replaceChildren();
    at("text").focus();
  });
})();
