/* POST /generate with stream: true -> the frames of its server-sent events (docs/serving.md). */

import { ask, failed } from "./server.js";

const DONE = "[DONE]";

/** Yields {text, logprobs} as they come, and {finish_reason, usage, seed, model} last. */
export async function* generate(body, signal) {
  const answer = await ask("generate", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, logprobs: true }), // logprobs: how many tokens came
    signal,
  });
  let done = false;
  for await (const data of events(answer.body)) {
    done = data === DONE;
    if (done) break;
    const frame = JSON.parse(data);
    if (frame.error) throw failed(frame.error);
    yield frame;
  }
  if (!done) throw failed({ message: "the connection ended before the text did: try again" });
}

/** The data of each event. Bytes may be cut anywhere, also within a character. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const whole = (waiting + value).split("\n\n");
    waiting = whole.pop();
    for (const event of whole) yield event.replace(/^data: /, "");
  }
}
