/* One prompt to the text models, side by side: text as it comes, its times, and a stop for all. */

import { byId, make, seconds, short, tell } from "./dom.js";
import { generate } from "./stream.js";

const TITLES = { luminanet: "LuminaNet", gpt2: "GPT-2" };
const ENDS = { stop: "the story ended", length: "as long as asked" };

let running = null; // the AbortController of what is being written

/** `cards`: those of /models that write text. A model that is not loaded says so in its place. */
export function start(cards) {
  const loaded = new Set(cards.map((card) => card.model));
  const writers = Object.keys(TITLES).map((model) => new Writer(model, loaded.has(model)));
  byId("writers").append(...writers.map((writer) => writer.element));
  const able = writers.filter((writer) => writer.loaded);
  byId("fair").hidden = able.length < 2;
  byId("ask").elements.in_turn.parentElement.hidden = able.length < 2;
  const form = byId("ask");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    write(form, able);
  });
  byId("stop").addEventListener("click", stop);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") stop();
    const asked = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    if (asked && !running && form.contains(event.target)) form.requestSubmit();
  });
}

function stop() {
  running?.abort();
}

async function write(form, writers) {
  running = new AbortController();
  busy(true);
  byId("told").textContent = "Writing.";
  const body = wanted(form.elements);
  const jobs = [];
  for (const writer of writers) {
    writer.clear(body.prompt);
    jobs.push(writer.write(body, running.signal));
    if (form.elements.in_turn.checked) await jobs.at(-1);
  }
  const ends = await Promise.all(jobs);
  byId("told").textContent = ends.join(" ");
  running = null;
  busy(false);
}

function busy(is) {
  byId("write").disabled = is;
  byId("stop").disabled = !is;
  byId(is ? "stop" : "write").focus({ preventScroll: true });
}

function wanted({ prompt, temperature, max_tokens, seed }) {
  const body = {
    prompt: prompt.value,
    temperature: temperature.valueAsNumber,
    max_tokens: max_tokens.valueAsNumber,
  };
  return seed.value ? { ...body, seed: seed.valueAsNumber } : body;
}

/** One model's text and figures. */
class Writer {
  constructor(model, loaded) {
    Object.assign(this, { model, loaded, title: TITLES[model] });
    const id = `by-${model}`;
    this.text = make("p", { className: "text", id: `text-${model}` });
    this.state = make("dd", { id: `state-${model}` }, "–");
    this.rate = make("dd", { id: `rate-${model}` }, "–");
    this.first = make("dd", { id: `first-${model}` }, "–");
    this.end = make("p", { className: "quiet end", id: `end-${model}` });
    this.problem = make("p", { className: "problem", hidden: true });
    this.problem.setAttribute("role", "alert");
    this.element = make(
      "article",
      { className: `writer ${model}` },
      make("h3", { id }, this.title),
      make(
        "dl",
        {},
        pair("Tokens per second", this.rate),
        pair("First token after", this.first),
        pair("State of the sequence", this.state),
      ),
      this.problem,
      this.text,
      this.end,
    );
    this.element.setAttribute("aria-labelledby", id);
    if (!loaded) this.refuse();
  }

  refuse() {
    this.element.classList.add("away");
    this.element.querySelector("dl").remove();
    this.end.textContent = `${this.title} is not loaded on this server: add its artifact to the folder that is served.`;
  }

  clear(prompt) {
    tell(this.problem, "");
    this.end.textContent = this.rate.textContent = this.first.textContent = "";
    this.written = document.createTextNode("");
    this.text.replaceChildren(make("span", { className: "prompt" }, prompt), this.written);
  }

  /** Returns one sentence for those who cannot see it. */
  async write(body, signal) {
    this.element.setAttribute("aria-busy", "true");
    const asked = performance.now();
    const since = () => (performance.now() - asked) / 1000;
    let tokens = 0;
    let first = NaN;
    const show = () => {
      this.rate.textContent = short(tokens / since());
      this.first.textContent = seconds(first);
    };
    try {
      for await (const frame of generate({ ...body, model: this.model }, signal)) {
        if (frame.finish_reason) {
          tokens = frame.usage.completion_tokens;
          this.finish(tokens, `${ENDS[frame.finish_reason]} · seed ${frame.seed}`);
        } else {
          tokens += frame.logprobs.length;
          this.written.data += frame.text;
          if (frame.text && Number.isNaN(first)) first = since();
        }
        show();
      }
      return `${this.title} wrote ${tokens} tokens.`;
    } catch (error) {
      if (error.name === "AbortError") {
        this.finish(tokens, "stopped");
        return `${this.title} was stopped.`;
      }
      tell(this.problem, error.message);
      return "";
    } finally {
      this.element.removeAttribute("aria-busy");
    }
  }

  finish(tokens, why) {
    this.end.textContent = `${tokens} tokens · ${why}`;
  }
}

const pair = (name, value) => make("div", {}, make("dt", {}, name), value);
