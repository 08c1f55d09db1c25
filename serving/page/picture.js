/* A picture that is drawn, dropped, pasted or chosen -> the classes that the network sees in it. */

import { byId, make, tell } from "./dom.js";
import { ask } from "./server.js";

const COLOURS = {
  black: "#1d1f23", white: "#ffffff", grey: "#8b929b", brown: "#7a4a26", red: "#c8352b",
  orange: "#e8862e", yellow: "#f0cf3c", green: "#3f8f45", sky: "#8ec5f0", blue: "#2356a8",
};
const AS_IT_IS = ["image/png", "image/jpeg", "image/webp"];
const MOST_BYTES = 2 << 20; // a larger picture is made smaller here: servers limit bytes and pixels
const SIDE = 512;
const BRUSH = 14; // of the 256 pixels of the canvas

const canvas = byId("canvas");
const pen = canvas.getContext("2d");
let colour = COLOURS.black;
let asked = 0; // only the last question is answered

export function start() {
  paper();
  drawing();
  brushes();
  byId("classify").addEventListener("click", async () => classify(await encoded(canvas)));
  byId("clear").addEventListener("click", clear);
  byId("file").addEventListener("change", (event) => take(event.target.files[0]));
  document.addEventListener("paste", (event) => take(pictureIn(event.clipboardData)));
  dropping(byId("easel"));
}

function paper() {
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
}

function clear() {
  asked += 1;
  paper();
  tell(byId("picture-problem"), "");
  byId("bars").hidden = true;
  byId("verdict").textContent = "No picture yet: the classes will be listed here.";
}

function brushes() {
  for (const [name, value] of Object.entries(COLOURS)) {
    const input = make("input", { type: "radio", name: "brush", value, checked: value === colour });
    input.addEventListener("change", () => (colour = value));
    const drop = make("span", { className: "drop" });
    drop.style.background = value;
    byId("brushes").append(make("label", { title: name }, input, drop, make("span", { className: "unseen" }, name)));
  }
}

function drawing() {
  let last = null;
  const place = ({ offsetX, offsetY }) => [offsetX, offsetY].map((x) => (x * canvas.width) / canvas.clientWidth);
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    line(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const next = place(event);
    line(last, next);
    last = next;
  });
  canvas.addEventListener("pointerup", async () => {
    last = null;
    classify(await encoded(canvas));
  });
  canvas.addEventListener("pointercancel", () => (last = null));
}

function line(from, to) {
  Object.assign(pen, { strokeStyle: colour, lineWidth: BRUSH, lineCap: "round" });
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

function dropping(target) {
  const held = (event) => {
    event.preventDefault();
    target.classList.toggle("held", event.type === "dragover");
  };
  for (const type of ["dragover", "dragleave", "drop"]) target.addEventListener(type, held);
  target.addEventListener("drop", (event) => take(pictureIn(event.dataTransfer)));
}

const pictureIn = (transfer) => [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/"));

/** Shows a file and classifies it: as it is where the server reads it, else made smaller here. */
async function take(file) {
  if (!file) return;
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    byId("bars").hidden = true;
    tell(byId("picture-problem"), "This browser cannot read that file as a picture: choose a PNG, JPEG or WebP.");
    return;
  }
  show(image);
  const fits = AS_IT_IS.includes(file.type) && file.size <= MOST_BYTES;
  classify(fits ? file : await smaller(image));
}

/** The whole picture on the canvas, stretched to a square as the network sees it. */
function show(image) {
  paper();
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
}

function smaller(image) {
  const ratio = Math.min(1, SIDE / Math.max(image.width, image.height));
  const size = [image.width, image.height].map((side) => Math.max(1, Math.round(side * ratio)));
  const copy = make("canvas", { width: size[0], height: size[1] });
  copy.getContext("2d").drawImage(image, 0, 0, ...size);
  return encoded(copy);
}

const encoded = (from) => new Promise((done) => from.toBlob(done, "image/png"));

async function classify(file) {
  const mine = (asked += 1);
  const form = new FormData();
  form.append("file", file, "picture");
  try {
    const answer = await (await ask("classify", { method: "POST", body: form })).json();
    if (mine !== asked) return;
    tell(byId("picture-problem"), "");
    list(answer);
  } catch (error) {
    if (mine === asked) tell(byId("picture-problem"), error.message);
  }
}

function list({ label, probabilities }) {
  const best = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  byId("verdict").replaceChildren("Most likely: ", make("strong", {}, label), `, ${percent(probabilities[label])}`);
  byId("bars").hidden = false;
  byId("bars").tBodies[0].replaceChildren(...best.map(bar));
}

function bar([label, probability]) {
  const filled = make("span", { className: "bar" });
  filled.style.width = `${100 * probability}%`;
  return make(
    "tr",
    {},
    Object.assign(make("th", {}, label), { scope: "row" }),
    make("td", { ariaHidden: "true" }, filled),
    make("td", {}, percent(probability)),
  );
}

const percent = (p) => `${(100 * p).toFixed(1)} %`;
