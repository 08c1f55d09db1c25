/* Requests to this server. Addresses are relative to the page, so that a path prefix does not matter. */

export class ServerError extends Error {}

/** The answer of a request, or a ServerError that says what went wrong and what to do. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached, or closed the connection: try again in a moment.");
  }
  if (!answer.ok) throw new ServerError(await reason(answer));
  return answer;
}

async function reason(answer) {
  const told = await answer.json().then((body) => body.error.message, () => "");
  const after = answer.headers.get("Retry-After");
  const again = after ? ` Try again in ${after} s.` : "";
  if (answer.status === 429) return `The server is busy (429): its queue is full.${again}`;
  return `${told ? inWords(told) : "The server refused"} (${answer.status}).${again}`;
}

/** An error inside a stream, in the same words. */
export const failed = (error) => new ServerError(`${inWords(error.message)}.`);

/** A sentence; names of fields, such as max_tokens, stay as they are. */
const inWords = (message) =>
  message.replace(/^[a-z](?=[a-z]* )/, (letter) => letter.toUpperCase()).replace(/\.$/, "");
