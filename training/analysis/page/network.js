// The drawing of one network: frames and lag axis below, then connections, then clusters.

const stage = document.getElementById("network");
const SVG = stage.namespaceURI;

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const layers = Object.fromEntries(["frames", "fields", "links", "nodes"].map((name) => [name, svg("g", { class: name })]));
const nodes = new Map(); // placeKey -> <g>
let layout;

stage.append(
  svg("defs", {}, ...KINDS.map((kind) =>
    svg("marker", { id: `tip-${kind}`, class: kind, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, markerUnits: "userSpaceOnUse", orient: "auto" },
      svg("path", { d: "M0 .8 8 4 0 7.2z" })))),
  ...Object.values(layers),
);

const path = (points) => `M${points.map((p) => p.map((v) => v.toFixed(1)).join(" ")).join("L")}Z`;

function drawFrames(size) {
  layout = layOut(size);
  stage.setAttribute("viewBox", `0 0 ${layout.width} ${layout.height}`);
  stage.setAttribute("height", layout.height);
  layers.frames.replaceChildren();
  for (const tick of layout.ticks) {
    layers.frames.append(svg("line", { class: "tick", x1: tick.x, x2: tick.x, y1: tick.top, y2: tick.bottom }));
    const text = svg("text", { class: "label", x: tick.x, y: tick.bottom + 15, "text-anchor": "middle" });
    text.textContent = tick.lag;
    layers.frames.append(text);
  }
  for (const frame of layout.frames) {
    layers.frames.append(svg("path", { class: "frame", d: path(frame.outline) }));
    for (const cell of frame.cells) layers.frames.append(svg("path", { class: "cell", d: path(cell) }));
    const label = svg("text", { class: "label", x: frame.label[0], y: frame.label[1] });
    label.textContent = `level ${frame.level}`;
    layers.frames.append(label);
  }
  for (const node of nodes.values()) node.remove();
  nodes.clear();
}

// ------------------------------------------------------------------ one moment

/** What the trial that led here did: `fresh` and `gone` links, `touched` clusters. */
function deed(view) {
  const trial = data.trials[view.position - 1];
  if (!trial) return { fresh: new Set(), gone: [], touched: new Map() };
  const before = networkAfter(view.position - 1);
  const touched = new Map(trial.change.put.map((c) => [c.id, before.clusters.has(c.id) ? "grown" : "new"]));
  if (!trial.kept) for (const target of trial.targets) for (const id of target) touched.set(id, "reverted");
  return {
    fresh: new Set(trial.change.connect.map(([s, t]) => linkKey(s, t))),
    gone: trial.change.disconnect.map(([s, t]) => ({ ...before.links.get(linkKey(s, t)), kind: kindOf(before, before.links.get(linkKey(s, t))), before })),
    touched,
  };
}

/** Strength from which connections are shown, when the weakest `percent` are hidden. */
function threshold(percent) {
  if (!percent || !ascending.length) return 0;
  return ascending[Math.min(ascending.length - 1, Math.floor((percent / 100) * ascending.length))];
}

function isShown(view, link) {
  if (!view.kinds.has(link.kind)) return false;
  const least = threshold(view.hidden);
  return least === 0 || (strengthOf.get(link.key) ?? 0) >= least;
}

function drawNetwork(view) {
  const { network } = view;
  const now = deed(view);
  const at = (cluster) => layout.places.get(placeKey(cluster));
  const reach = (cluster) => radius(cluster.width, layout.scale);
  const near = new Set([view.active]);
  const shown = [];
  for (const link of network.links.values()) {
    link.kind = kindOf(network, link);
    const fresh = now.fresh.has(link.key);
    if (!isShown(view, link) && !(fresh && view.kinds.has(link.kind))) continue;
    const on = link.source === view.active || link.target === view.active;
    if (on) near.add(link.source).add(link.target);
    shown.push({ link, on, fresh, clusters: network.clusters });
  }
  for (const link of now.gone) {
    if (view.kinds.has(link.kind)) shown.push({ link, gone: true, clusters: link.before.clusters });
  }
  shown.sort((a, b) => Number(a.on ?? 0) - Number(b.on ?? 0));
  layers.links.replaceChildren(...shown.map((item) => drawLink(item, at, reach, view.active !== null)));
  layers.fields.replaceChildren(...drawFields(network, view, at));
  drawNodes(network, view, { at, reach, near, touched: now.touched });
  return shown.filter((item) => !item.gone).length;
}

function drawLink({ link, on, fresh, gone, clusters }, at, reach, busy) {
  const source = clusters.get(link.source);
  const target = clusters.get(link.target);
  const strength = strengthOf.get(link.key);
  const share = Math.min(1, (strength ?? 0) / strong);
  const state = gone ? "gone" : on ? "on" : busy ? "off" : fresh ? "fresh" : strength === undefined ? "doomed" : "";
  const look = { class: `link ${link.kind} ${state}`, "stroke-width": (0.7 + 2.3 * share).toFixed(2), "stroke-opacity": ((link.kind === "recurrent" ? 0.4 : 0.14) + 0.55 * share ** 0.8).toFixed(2) };
  const [x, y] = at(source);
  if (source.id === target.id) return svg("circle", { ...look, cx: x, cy: y, r: reach(source) + 2.6 });
  const [u, v] = at(target);
  const length = Math.hypot(u - x, v - y) || 1;
  const [dx, dy] = [(u - x) / length, (v - y) / length];
  const bend = 0.13 * length + 4; // always to the right of the way: a mutual pair is two arcs
  const [cx, cy] = [(x + u) / 2 - dy * bend, (y + v) / 2 + dx * bend];
  const edge = (px, py, r) => {
    const far = Math.hypot(cx - px, cy - py) || 1;
    return `${(px + ((cx - px) / far) * r).toFixed(1)} ${(py + ((cy - py) / far) * r).toFixed(1)}`;
  };
  const d = `M${edge(x, y, reach(source))}Q${cx.toFixed(1)} ${cy.toFixed(1)} ${edge(u, v, reach(target) + (on ? 2 : 0))}`;
  return svg("path", { ...look, d, ...(on ? { "marker-end": `url(#tip-${link.kind})` } : {}) });
}

function drawFields(network, view, at) {
  const drawn = [];
  for (const cluster of network.clusters.values()) {
    const active = cluster.id === view.active;
    for (const [from, to, y] of layout.bars(cluster, at(cluster)[1])) {
      drawn.push(svg("line", { class: active ? "field" : "bar", x1: from, x2: to, y1: y, y2: y }));
    }
    if (active && layout.region) {
      for (const field of cluster.fields) drawn.push(svg("path", { class: "field", d: path(layout.region(cluster.level, field)) }));
    }
  }
  return drawn;
}

function drawNodes(network, view, { at, reach, near, touched }) {
  const living = new Set();
  for (const cluster of network.clusters.values()) {
    const key = placeKey(cluster);
    living.add(key);
    const node = nodes.get(key) ?? newNode(key, cluster, at(cluster));
    const [disc, label] = node.children;
    const r = reach(cluster);
    disc.setAttribute("r", r.toFixed(1));
    label.setAttribute("font-size", Math.max(7.5, Math.min(11, r * 0.95)).toFixed(1));
    const hears = [...network.links.values()].filter((l) => l.target === cluster.id).length;
    const heard = [...network.links.values()].filter((l) => l.source === cluster.id).length;
    const words = `Cluster ${cluster.id}, level ${cluster.level}, ${plural(cluster.width, "neuron")}, hears ${hears}, heard by ${heard}`;
    node.setAttribute("aria-label", words);
    node.setAttribute("aria-pressed", String(view.pinned === cluster.id));
    node.setAttribute("class", [
      "node",
      touched.get(cluster.id) ?? "",
      view.active === cluster.id ? "active" : view.active !== null && !near.has(cluster.id) ? "dim" : "",
    ].join(" "));
    node.setAttribute("tabindex", cluster.id === view.stop ? "0" : "-1");
  }
  for (const [key, node] of nodes) {
    if (living.has(key)) continue;
    node.remove();
    nodes.delete(key);
  }
}

function newNode(key, cluster, [x, y]) {
  const label = svg("text", { "text-anchor": "middle", dy: ".35em" });
  label.textContent = cluster.id;
  const node = svg("g", { role: "button", transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` }, svg("circle"), label);
  node.dataset.id = cluster.id;
  nodes.set(key, node);
  layers.nodes.append(node);
  return node;
}
