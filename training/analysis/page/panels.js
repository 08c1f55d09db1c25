// The words beside the drawing: kinds of connections, details of a cluster, facts, similarity.

const byId = (id) => document.getElementById(id);

function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function drawKinds(view, toggle) {
  byId("kinds").replaceChildren(...KINDS.map((kind) => {
    const box = html("input", { type: "checkbox", id: `kind-${kind}` });
    box.checked = view.kinds.has(kind);
    box.addEventListener("change", () => toggle(kind, box.checked));
    const count = html("span", { class: "count", id: `count-${kind}` });
    return html("label", { class: `kind ${kind}` }, box, html("i", { class: "swatch" }), kind, count);
  }));
}

function updateKinds(network, view, shown) {
  const counts = Object.fromEntries(KINDS.map((kind) => [kind, 0]));
  for (const link of network.links.values()) counts[link.kind] += 1;
  for (const kind of KINDS) byId(`count-${kind}`).textContent = counts[kind].toLocaleString("en");
  byId("hidden").textContent = view.hidden ? `${view.hidden} %, below ${number(threshold(view.hidden))}` : "0 %";
  byId("shown").textContent = `${shown.toLocaleString("en")} of ${plural(network.links.size, "connection")} shown`;
}

// ------------------------------------------------------------------ one cluster

function drawDetails(view, choose) {
  const cluster = view.network.clusters.get(view.active);
  const panel = byId("details");
  if (!cluster) {
    panel.replaceChildren(
      html("h2", {}, "A cluster"),
      html("p", { class: "quiet" }, "Point at a cluster, or walk with the arrow keys, to see what it hears and who hears it. Click or Enter keeps it, Escape lets go."),
    );
    return;
  }
  const links = [...view.network.links.values()];
  const hears = links.filter((link) => link.target === cluster.id);
  const heard = links.filter((link) => link.source === cluster.id);
  const fields = cluster.fields.map(describeField);
  panel.replaceChildren(
    html("h2", {}, `Cluster ${cluster.id}`),
    html("p", {}, `Level ${cluster.level}, ${plural(cluster.width, "neuron")}.`),
    html("p", {}, fields.length ? `Sees ${fields.join("; ")}.` : "Sees nothing: it only hears."),
    ...partners(`Hears ${hears.length}`, hears, "source", choose),
    ...partners(`Heard by ${heard.length}`, heard, "target", choose),
  );
}

function partners(title, links, end, choose) {
  const strength = (link) => strengthOf.get(link.key) ?? -1;
  const most = Math.max(...links.map(strength));
  const rows = links.sort((a, b) => strength(b) - strength(a) || a[end] - b[end]).map((link) => {
    const value = strengthOf.get(link.key);
    const meter = html("i", { class: "meter", style: `width:${(30 * (value ?? 0)) / (most || 1)}px` });
    const words = value === undefined ? "pruned" : value.toPrecision(2);
    const button = html("button", { type: "button", class: link.kind, "aria-label": `cluster ${link[end]}, ${link.kind}, strength ${words}` },
      html("b", {}, String(link[end])), html("span", { class: "rail" }, meter), html("span", {}, words));
    button.addEventListener("click", () => choose(link[end]));
    return html("li", {}, button);
  });
  return [html("h3", {}, title), html("ul", { class: "partners" }, ...rows)];
}

// ------------------------------------------------------------------ the end of training

function drawFacts() {
  byId("list").replaceChildren(...data.facts.map((fact) =>
    html("div", {}, html("dt", {}, fact.label), html("dd", {}, fact.value), html("dd", { class: "quiet" }, fact.how))));
  byId("spreads").replaceChildren(...Object.entries(data.spreads).map(([name, spread]) => {
    const top = Math.max(1, ...spread.bins.map((bin) => bin.count));
    const bars = spread.bins.map((bin) => {
      const bar = html("i", { style: `height:${(100 * bin.count) / top}%`, title: `${number(bin.low)} to ${number(bin.high)}: ${bin.count}` });
      return html("span", {}, bar);
    });
    const words = `min ${number(spread.minimum)}, mean ${number(spread.mean)}, max ${number(spread.maximum)}`;
    const ends = html("div", { class: "ends quiet" }, html("span", {}, number(spread.minimum)), html("span", {}, `mean ${number(spread.mean)}`), html("span", {}, number(spread.maximum)));
    return html("figure", { role: "img", "aria-label": `${name}: ${words}` }, html("figcaption", {}, name), html("div", { class: "bars" }, ...bars), ends);
  }));
}

function drawSimilarity() {
  byId("similarity").hidden = !data.similarity.length;
  byId("other").textContent = `Compared with ${data.other}; 1 is the same. By chance: what as many connections, drawn blindly, would give.`;
  byId("measures").replaceChildren(...data.similarity.map((m) => html("tr", {},
    html("th", { scope: "row" }, m.name),
    html("td", { class: "figure" }, m.value.toFixed(2)),
    html("td", { class: "figure" }, m.chance === null ? "" : m.chance.toFixed(2)),
    html("td", { class: "quiet" }, m.meaning))));
}
