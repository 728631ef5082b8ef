"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const THUMB = "M2 10h4v11H2z M8 10l5-8c2 0 3 1.5 2.6 3.2L15 9h5.5c1.3 0 2.2 1.2 1.9 2.4l-2 8c-.2 1-1 1.6-2 1.6H8z";
  let asked = null;
  let exchanges = [];

  function make(name, text, className) {
    const element = document.createElement(name);
    if (text) element.textContent = text;
    if (className) element.className = className;
    return element;
  }

  async function ask(path, content) {
    const headers = { "Content-Type": "application/json" };
    if (at("key").value) headers.Authorization = "Bearer " + at("key").value;
    const got = await fetch(path, { method: "POST", headers, body: JSON.stringify(content) });
    const said = await got.json();
    if (!got.ok) throw new Error(said.error.message);
    return said;
  }

  function button(text, label, act) {
    const element = make("button", text);
    element.type = "button";
    if (label) element.setAttribute("aria-label", label);
    element.addEventListener("click", async () => {
      element.disabled = true;
      try {
        await act(element);
      } catch (error) {
        at("state").textContent = error.message;
      }
      element.disabled = false;
    });
    return element;
  }

  function forgetButton(turns) {
    return button("Forget", "", async (element) => {
      if (!element.classList.contains("sure")) {
        element.classList.add("sure");
        element.textContent = "Forget for good?";
        return;
      }
      const gone = (await ask("/companion/forget", { turns })).turns;
      const left = [];
      const elements = [];
      for (const exchange of exchanges) {
        if (exchange.turns.some((turn) => gone.includes(turn))) elements.push(...exchange.elements);
        else left.push(exchange);
      }
      exchanges = left;
      document.dispatchEvent(new CustomEvent("chat-forget", { detail: { elements } }));
      at("state").textContent = "forgotten";
      if (memories.open) await showMemories();
    });
  }

  function thumbButton(turn, thumbs, label) {
    const element = button("", label, async () => {
      await ask("/companion/judge", { turn, thumbs });
      for (const other of element.parentElement.querySelectorAll("[aria-pressed]")) other.setAttribute("aria-pressed", "false");
      element.setAttribute("aria-pressed", "true");
    });
    element.setAttribute("aria-pressed", "false");
    const picture = document.createElementNS(SVG, "svg");
    const thumb = document.createElementNS(SVG, "path");
    picture.setAttribute("viewBox", "0 0 24 24");
    thumb.setAttribute("d", THUMB);
    if (thumbs === "down") thumb.setAttribute("transform", "rotate(180 12 12)");
    picture.append(thumb);
    element.append(picture);
    return element;
  }

  const memories = make("details");
  memories.id = "memories";
  const list = make("ul");
  const more = make("p", "", "detail");
  memories.append(make("summary", "What do you remember about me?"), more, list);
  at("beside").append(memories);

  async function showMemories() {
    const found = await ask("/companion/memories", {});
    const known = found.memories ?? [];
    list.replaceChildren();
    for (const { text, role, time, turns, why } of known) {
      const line = make("li");
      const words = make("div");
      const said = make("p", text);
      said.dir = "auto";
      const who = role === "user" ? "you said" : "the companion said";
      const hidden = why === "replaced" ? "; something else stands in its place" : why ? "; said again since" : "";
      words.append(said, make("p", `${who}, ${time.slice(0, 16).replace("T", " ")} UTC${hidden}`, "detail"));
      line.append(words, forgetButton(turns));
      list.append(line);
    }
    if (found.memories === null) more.textContent = "This companion runs without a memory.";
    else if (!known.length) more.textContent = "Nothing is remembered.";
    else more.textContent = found.more ? `${found.more} older ones are not shown; pt memory audit has all.` : "";
  }

  memories.addEventListener("toggle", async () => {
    if (!memories.open) return;
    try {
      await showMemories();
    } catch (error) {
      more.textContent = error.message;
    }
  });

  document.addEventListener("chat-turn", ({ detail }) => {
    if (detail.role === "user") {
      asked = detail.element;
      return;
    }
    if (!detail.noted) return;
    const { turns, mood, recalled } = detail.noted;
    const about = make("div", "", "about");
    for (const token of mood) about.append(make("span", token, "chip"));
    if (recalled.length) {
      const chip = make("span", recalled.length === 1 ? "1 memory" : `${recalled.length} memories`, "chip won");
      chip.title = recalled.join("\n");
      about.append(chip);
    }
    if (turns.length > 1) {
      about.append(
        thumbButton(turns[1], "up", "Good answer"),
        thumbButton(turns[1], "down", "Bad answer"),
      );
    }
    if (turns.length) {
      about.append(forgetButton(turns));
      exchanges.push({ turns, elements: [asked, detail.element] });
    } else about.append(make("span", "not kept", "detail"));
    detail.element.append(about);
    about.scrollIntoView({ block: "nearest" });
    if (memories.open) showMemories().catch((error) => { more.textContent = error.message; });
  });
})();
