/* topologies.json -> drawings of the evolved networks: clusters by level, connections between them. */

import { byId, make, tell } from "./dom.js";
import { ask } from "./server.js";

const WIDTH = 720;
const GAP = 46; // between two clusters of a level
const KINDS = {
  feedforward: "feedforward, to a higher level",
  feedback: "feedback, to the same or a lower level",
  recurrent: "recurrent, to itself",
};

const svg = (tag, attributes, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

async function start() {
  const topologies = Object.entries(await (await ask("topologies.json")).json());
  if (!topologies.length) tell(byId("problem"), "No network that is loaded here has a topology.");
  byId("main").append(...topologies.map(([name, topology]) => section(name, topology)));
}

function section(name, topology) {
  const { clusters } = topology;
  const level = Object.fromEntries(clusters.map((cluster) => [cluster.id, cluster.level]));
  const links = topology.connections.map(([source, target]) => ({ source, target, kind: kind(level, source, target) }));
  const count = (wanted) => links.filter((link) => link.kind === wanted).length;
  const title = make("h2", { id: name }, name);
  const told = make("p", { className: "quiet" }, "Point at a cluster, or reach it with Tab, to see what it hears and who hears it.");
  told.setAttribute("role", "status");
  const legend = make("ul", { className: "legend" });
  for (const [key, words] of Object.entries(KINDS)) {
    const sample = svg("svg", { viewBox: "0 0 40 8", class: "key", "aria-hidden": "true" });
    sample.append(svg("path", { class: `link ${key}`, d: "M0 4 H40" }));
    legend.append(make("li", {}, sample, `${count(key)} ${words}`));
  }
  const element = make("section", {}, title, drawing(name, clusters, links, told), told, legend, table(clusters, links));
  element.setAttribute("aria-labelledby", name);
  return element;
}

function kind(level, source, target) {
  if (source === target) return "recurrent";
  return level[source] < level[target] ? "feedforward" : "feedback";
}

function drawing(name, clusters, links, told) {
  const places = layout(clusters);
  const height = Math.max(...Object.values(places).map((place) => place.y)) + GAP;
  const drawn = links.map((link) => svg("path", { class: `link ${link.kind}`, d: path(places, link) }));
  const whole = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: "network", role: "group", "aria-label": `Drawing of ${name}` });
  for (const level of new Set(clusters.map((cluster) => cluster.level)))
    whole.append(svg("text", { class: "level", x: 4, y: places[clusters.find((c) => c.level === level).id].y + 4 }, `level ${level}`));
  whole.append(...drawn);
  for (const cluster of clusters) {
    const { x, y, r } = places[cluster.id];
    const words = sentence(cluster, links);
    const node = svg("g", { class: "cluster", tabindex: 0, role: "img", "aria-label": words });
    node.append(svg("circle", { cx: x, cy: y, r }), svg("text", { x, y: y + 4 }, String(cluster.id)));
    const on = () => {
      told.textContent = words;
      links.forEach((link, k) => drawn[k].classList.toggle("off", ![link.source, link.target].includes(cluster.id)));
    };
    const off = () => drawn.forEach((line) => line.classList.remove("off"));
    for (const [event, then] of [["focus", on], ["pointerenter", on], ["blur", off], ["pointerleave", off]])
      node.addEventListener(event, then);
    whole.append(node);
  }
  return whole;
}

/** Levels from the bottom up; a level of many clusters takes several rows. */
function layout(clusters) {
  const places = {};
  const widest = Math.max(...clusters.map((cluster) => cluster.width));
  const levels = [...new Set(clusters.map((cluster) => cluster.level))].sort((a, b) => b - a);
  let y = GAP;
  for (const level of levels) {
    const here = clusters.filter((cluster) => cluster.level === level);
    const step = Math.min((WIDTH - 110) / here.length, 2.4 * GAP);
    here.forEach((cluster, k) => {
      const x = 60 + WIDTH / 2 + (k - (here.length - 1) / 2) * step - 30;
      const r = Math.max(8, Math.min(step * 0.42, 20) * Math.sqrt(cluster.width / widest));
      const bow = 26 * ((k - (here.length - 1) / 2) / Math.max(1, here.length)) ** 2 * 4; // so that no link hides another
      places[cluster.id] = { x, y: y + bow, r };
    });
    y += 3.4 * GAP;
  }
  return places;
}

function path(places, { source, target, kind }) {
  const a = places[source];
  const b = places[target];
  if (kind === "recurrent") return `M${a.x - a.r * 0.7} ${a.y + a.r * 0.7} c -10 22, ${1.4 * a.r + 10} 22, ${1.4 * a.r} 0`;
  const bend = (kind === "feedback" ? 0.18 : -0.04) * (b.x - a.x) + (kind === "feedback" ? 24 : 0);
  const same = Math.abs(a.y - b.y) < GAP ? -Math.abs(b.x - a.x) * 0.22 : 0;
  return `M${a.x} ${a.y} Q ${(a.x + b.x) / 2 + (same ? 0 : bend)} ${(a.y + b.y) / 2 + same}, ${b.x} ${b.y}`;
}

function sentence({ id, level, width, fields }, links) {
  const hears = links.filter((link) => link.target === id).length;
  const heard = links.filter((link) => link.source === id).length;
  return `Cluster ${id}: level ${level}, ${width} neurons, ${fields.length} receptive fields, hears ${hears}, is heard by ${heard}.`;
}

function table(clusters, links) {
  const heads = ["Cluster", "Level", "Neurons", "Fields", "Hears", "Heard by"];
  const rows = clusters.map(({ id, level, width, fields }) => [
    id, level, width, fields.length,
    links.filter((link) => link.target === id).map((link) => link.source).join(" "),
    links.filter((link) => link.source === id).map((link) => link.target).join(" "),
  ]);
  const head = make("tr", {}, ...heads.map((text) => Object.assign(make("th", {}, text), { scope: "col" })));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, String(cell)))));
  const whole = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  const wide = Object.assign(make("div", { className: "wide", tabIndex: 0, role: "region" }, whole), { ariaLabel: "Clusters" });
  return make("details", {}, make("summary", {}, "The same as a table"), wide);
}

start().catch((error) => tell(byId("problem"), error.message));
