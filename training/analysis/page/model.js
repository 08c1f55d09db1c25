// The data of the page, and the network at any moment of its evolution. No drawing here.

const data = JSON.parse(document.getElementById("data").textContent);
const KINDS = ["feedforward", "feedback", "recurrent"];
const LAST = data.trials.length;

const linkKey = (source, target) => `${source}>${target}`;
const placeKey = (cluster) => `${cluster.id}:${cluster.level}:${JSON.stringify(cluster.fields)}`;

/** Strength |gate|/n at the end of training; connections that were pruned have none. */
const strengthOf = new Map(data.strengths.map(([s, t, value]) => [linkKey(s, t), value]));
const ascending = [...strengthOf.values()].sort((a, b) => a - b);
const strong = ascending[Math.floor(0.97 * ascending.length)] || 1; // drawn at full weight

function apply(network, change) {
  for (const id of change.remove) network.clusters.delete(id);
  for (const cluster of change.put) network.clusters.set(cluster.id, cluster);
  for (const [s, t] of change.disconnect) network.links.delete(linkKey(s, t));
  for (const [s, t] of change.connect) {
    network.links.set(linkKey(s, t), { key: linkKey(s, t), source: s, target: t });
  }
  return network;
}

/** Clusters by id and links by "source>target", after the first `count` trials. */
function networkAfter(count) {
  const network = { clusters: new Map(), links: new Map() };
  return data.trials.slice(0, count).reduce((n, trial) => apply(n, trial.change), apply(network, data.start));
}

function kindOf(network, link) {
  if (link.source === link.target) return "recurrent";
  const level = (id) => network.clusters.get(id).level;
  return level(link.source) < level(link.target) ? "feedforward" : "feedback";
}

/** Every cluster that ever lived, so that each keeps its place while the history moves. */
function everyCluster() {
  const all = new Map();
  for (const change of [data.start, ...data.trials.map((trial) => trial.change)]) {
    for (const cluster of change.put) {
      const key = placeKey(cluster);
      const known = all.get(key);
      if (!known || known.width < cluster.width) all.set(key, cluster);
    }
  }
  return [...all.values()].sort((a, b) => a.level - b.level || a.id - b.id);
}

const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const number = (value) => {
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) < 1e-3 ? value.toExponential(1) : value.toPrecision(3);
};
const millions = (n) => (n >= 1e6 ? `${(n / 1e6).toFixed(2)}\u00a0M` : n >= 1e3 ? `${(n / 1e3).toFixed(0)}\u00a0k` : `${n}`);

function describeField(field) {
  if (data.input.text) {
    const [start, stop] = field;
    if (field.length === 1) return `what followed the newest ${start === 1 ? "token" : `${start} tokens`} before`;
    return stop - start === 1 ? (start === 0 ? "the last token" : `lag ${start}`) : `lags ${start}–${stop - 1}, pooled`;
  }
  const [top, left, height, width, pool, ...channels] = field;
  const names = data.input.channels === 3 ? ["red", "green", "blue"] : channels.map(String);
  const colour = channels.length === data.input.channels ? "all colours" : channels.map((c) => names[c] ?? c).join(", ");
  const means = pool > 1 ? `, means of ${pool} × ${pool} pixels` : "";
  return `rows ${top}–${top + height - 1}, columns ${left}–${left + width - 1}, ${colour}${means}`;
}
