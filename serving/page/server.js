/* Requests to this server. Addresses are relative to the page, so that a path prefix does not matter. */

export class ServerError extends Error {}

/** This server wants a key, or another one. */
export class KeyError extends ServerError {}

const KEY = "luminanet-key";

/** Keeps an API key until this tab is closed. */
export const remember = (key) => sessionStorage.setItem(KEY, key);

/** As fetch, with the key that is kept. */
export function send(path, { headers = {}, ...options } = {}) {
  const key = sessionStorage.getItem(KEY);
  return fetch(path, { ...options, headers: key ? { ...headers, Authorization: `Bearer ${key}` } : headers });
}

/** The answer of a request, or a ServerError that says what went wrong and what to do. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await send(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached, or closed the connection: try again in a moment.");
  }
  if (answer.status === 401) throw new KeyError(await reason(answer));
  if (!answer.ok) throw new ServerError(await reason(answer));
  return answer;
}

async function reason(answer) {
  const { message: told, type } = await answer.json().then((body) => body.error, () => ({}));
  const after = answer.headers.get("Retry-After");
  const again = after ? ` Try again in ${after} s.` : "";
  if (answer.status === 401) return `${told ? inWords(told) : "This server needs a key"}.`;
  if (type === "overloaded") return `The server is busy (429): its queue is full.${again}`;
  return `${told ? inWords(told) : "The server refused"} (${answer.status}).${again}`;
}

/** An error inside a stream, in the same words. */
export const failed = (error) => new ServerError(`${inWords(error.message)}.`);

/** A sentence; names of fields, such as max_tokens, stay as they are. */
const inWords = (message) =>
  message.replace(/^[a-z](?=[a-z]* )/, (letter) => letter.toUpperCase()).replace(/\.$/, "");
