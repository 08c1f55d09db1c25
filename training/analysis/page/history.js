// The evolution on a slider: a caption in words, the held-out loss, and a row per operator.

const ROWS = [...new Set(data.trials.map((trial) => trial.operator))]; // as they came

const fateOf = (trial) => (trial.tried ? (trial.kept ? "kept" : "taken back") : "kept without a trial");
const loss4 = (loss) => (loss === null ? "not finite" : loss.toFixed(4));

function drawCaption(view) {
  const trial = data.trials[view.position - 1];
  const { network } = view;
  const size = `${plural(network.clusters.size, "cluster")}, ${plural(network.links.size, "connection")}`;
  const strong = (text) => html("strong", {}, text);
  if (view.position === 0) {
    byId("caption").replaceChildren(strong("The start: "), `${size}, before any trial.`);
  } else if (!trial) {
    const { steps, held_out_loss: loss } = data.figures;
    const figures = steps && Number.isFinite(loss) ? ` after ${plural(steps, "step")}, held-out loss ${loss.toFixed(3)}` : "";
    byId("caption").replaceChildren(strong("The end of training"), `${figures}: ${size}.`);
  } else {
    const fate = html("span", { class: trial.kept ? "kept" : "reverted" }, fateOf(trial));
    const losses = trial.tried ? [`Held-out loss ${loss4(trial.before)} → ${loss4(trial.after)}, `] : [];
    byId("caption").replaceChildren(
      strong(`Trial ${view.position} of ${LAST}`),
      `, event ${trial.event}, step ${trial.step.toLocaleString("en")}: ${trial.words}. `,
      ...losses, fate,
      `. Now ${size}, depth ${trial.depth}, ${millions(trial.parameters)} parameters.`,
    );
  }
}

// ------------------------------------------------------------------ chart

const chart = byId("chart");
let cursor;
let scaleX;

function drawChart(size, go) {
  const [left, right, top, plot, row] = [58, 12, 10, 120, 17];
  const height = top + plot + 14 + ROWS.length * row + 24;
  const narrow = size < 560;
  const gutter = narrow ? 78 : left + 20;
  const steps = data.trials.map((trial) => trial.step);
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const losses = data.trials.flatMap((trial) => (trial.kept ? [trial.before, trial.after] : [trial.before])).filter(Number.isFinite);
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  const x = (step) => gutter + ((step - first) / (last - first || 1)) * (size - gutter - right);
  const y = (loss) => top + plot - ((Math.min(high, Math.max(low, loss)) - low) / (high - low || 1)) * plot;
  scaleX = (position) => x(data.trials[Math.max(0, Math.min(LAST, position) - 1)].step);
  const label = (text, at, more = {}) => {
    const element = svg("text", { class: "label", ...at, ...more });
    element.textContent = text;
    return element;
  };
  const parts = [];
  for (let k = 0; losses.length && k <= 3; k += 1) {
    const loss = low + (k / 3) * (high - low);
    parts.push(svg("line", { class: "tick", x1: gutter, x2: size - right, y1: y(loss), y2: y(loss) }));
    parts.push(label(loss.toFixed(2), { x: gutter - 8, y: y(loss) + 4 }, { "text-anchor": "end" }));
  }
  const line = data.trials.flatMap((t) => (t.kept ? [[t.step, t.before], [t.step, t.after]] : [[t.step, t.before]])).filter(([, loss]) => Number.isFinite(loss));
  if (line.length) parts.push(svg("path", { class: "loss", d: `M${line.map(([s, l]) => `${x(s).toFixed(1)} ${y(l).toFixed(1)}`).join("L")}` }));
  ROWS.forEach((name, k) => {
    const middle = top + plot + 22 + k * row;
    parts.push(label(name, { x: gutter - 8, y: middle + 4 }, { "text-anchor": "end" }));
    parts.push(svg("line", { class: "tick", x1: gutter, x2: size - right, y1: middle, y2: middle }));
  });
  data.trials.forEach((trial, k) => {
    const r = narrow ? 3 : 4.2;
    const at = { cx: x(trial.step), cy: top + plot + 22 + ROWS.indexOf(trial.operator) * row, r };
    const mark = svg("circle", { class: `mark ${trial.kept ? "kept" : "reverted"}`, ...at });
    const words = svg("title");
    words.textContent = `trial ${k + 1}: ${trial.operator}, ${fateOf(trial)}`;
    mark.append(words);
    mark.addEventListener("click", () => go(k + 1));
    parts.push(mark);
  });
  const ends = [[first, "start"], [last, "end"]];
  parts.push(...ends.map(([step, anchor]) => label(`step ${step.toLocaleString("en")}`, { x: x(step), y: height - 6 }, { "text-anchor": anchor })));
  cursor = svg("line", { class: "cursor", y1: 0, y2: height - 20 });
  chart.setAttribute("viewBox", `0 0 ${size} ${height}`);
  chart.setAttribute("height", height);
  const kept = data.trials.filter((trial) => trial.kept).length;
  const range = losses.length ? `Held-out loss from ${high.toFixed(2)} to ${low.toFixed(2)} over ` : "";
  chart.setAttribute("aria-label", `${range}${plural(LAST, "trial")}: ${kept} kept, ${LAST - kept} taken back.`);
  chart.replaceChildren(...parts, cursor);
}

function moveCursor(position) {
  cursor.setAttribute("x1", scaleX(position));
  cursor.setAttribute("x2", scaleX(position));
  cursor.toggleAttribute("hidden", position === 0 || position > LAST);
}
