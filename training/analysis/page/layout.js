// Where things stand: clusters on their receptive field, one plane (image) or band (text) a level.

const SLANT = 0.2; // how far a plane's back edge is shifted, as a share of the width

const levels = [...new Set(everyCluster().map((c) => c.level))].sort((a, b) => a - b);
const radius = (width, scale) => scale * (3 + 0.95 * Math.sqrt(width));

/** Positions for a drawing `size` pixels wide: {width, height, places, frames, region, ticks}. */
function layOut(size) {
  const scale = size < 560 ? 0.62 : 1;
  return data.input.text ? bands(size, scale) : planes(size, scale);
}

// ------------------------------------------------------------------ images: slanted planes

function planes(size, scale) {
  const depth = Math.max(84, Math.min(220, 660 / levels.length)) * (scale < 1 ? 0.72 : 1);
  const gap = depth + 26;
  const margin = 8;
  const across = (size - 2 * margin) * (1 - SLANT);
  const height = gap * levels.length + 8;
  const { height: rows, width: columns } = data.input;
  const point = (level, row, column) => {
    const v = row / rows;
    const front = height - 24 - levels.indexOf(level) * gap;
    return [margin + (1 - v) * SLANT * size + (column / columns) * across, front - (1 - v) * depth];
  };
  const region = (level, [top, left, h, w]) =>
    [[top, left], [top, left + w], [top + h, left + w], [top + h, left]].map(([y, x]) => point(level, y, x));
  const centre = (cluster) => {
    const middle = (k) => {
      const sum = cluster.fields.reduce((s, f) => s + f[k] + f[k + 2] / 2, 0);
      return cluster.fields.length ? sum / cluster.fields.length : [rows / 2, columns + 2][k];
    };
    return [middle(0), middle(1)];
  };
  const room = (cluster) => {
    const [, , h, w] = cluster.fields[0] ?? [0, 0, rows / 4, columns / 4];
    return [(w / columns) * across, (h / rows) * depth];
  };
  const frames = levels.map((level) => {
    const seen = everyCluster().filter((c) => c.level === level).flatMap((c) => c.fields);
    const cells = [...new Map(seen.map((f) => [f.slice(0, 4).join(), f])).values()];
    return {
      level,
      outline: region(level, [0, 0, rows, columns]),
      cells: cells.map((cell) => region(level, cell)),
      label: [point(level, rows, 0)[0], point(level, rows, 0)[1] + 15],
    };
  });
  const places = spread(centre, room, (c) => point(c.level, ...centre(c)), scale);
  return { width: size, height, scale, places, frames, region, ticks: [], bars: () => [] };
}

/** Clusters at the same spot stand beside each other, in as many rows as their room asks for. */
function spread(centre, room, at, scale) {
  const groups = Map.groupBy(everyCluster(), (c) => [c.level, ...centre(c)].join());
  const places = new Map();
  for (const group of groups.values()) {
    const step = 2 * Math.max(...group.map((c) => radius(c.width, scale))) + 3;
    const [wide] = room(group[0]);
    const columns = Math.max(1, Math.min(group.length, Math.floor(wide / step)));
    const rows = Math.ceil(group.length / columns);
    group.forEach((cluster, k) => {
      const row = Math.floor(k / columns);
      const inRow = row === rows - 1 ? group.length - row * columns : columns;
      const [x, y] = at(cluster);
      places.set(placeKey(cluster), [x + ((k % columns) - (inRow - 1) / 2) * step, y + (row - (rows - 1) / 2) * step]);
    });
  }
  return places;
}

// ------------------------------------------------------------------ text: a logarithmic lag axis

function bands(size, scale) {
  const margin = 26 * scale + 4;
  const { window } = data.input;
  const far = Math.log2(window + 1);
  const x = (lag) => size - margin - (Math.log2(lag + 1) / far) * (size - 2 * margin);
  const lags = (cluster) => cluster.fields.filter((field) => field.length === 2); // no recalls
  const own = (cluster) => {
    const seen = lags(cluster);
    const far = seen.filter(([, stop]) => stop > 1); // many also see the last token
    return far.length ? far : seen.length ? seen : [[0, window]];
  };
  const middle = (cluster) =>
    own(cluster).reduce((sum, [start, stop]) => sum + (x(start) + x(stop)) / 2, 0) / own(cluster).length;
  const places = new Map();
  const frames = [];
  let top = 8;
  for (const level of [...levels].reverse()) {
    const clusters = everyCluster().filter((c) => c.level === level);
    const step = 2 * Math.max(...clusters.map((c) => radius(c.width, scale))) + 6 * scale + 2;
    const rows = [];
    for (const cluster of clusters.sort((a, b) => middle(b) - middle(a) || a.id - b.id)) {
      const at = middle(cluster);
      const right = Math.max(at + step / 2, ...own(cluster).map(([start]) => x(start)));
      let row = rows.findIndex((left) => left - 6 >= right);
      if (row < 0) row = rows.length;
      rows[row] = Math.min(at - step / 2, ...own(cluster).map(([, stop]) => x(stop)));
      places.set(placeKey(cluster), [at, row]);
    }
    const height = Math.max(rows.length, 2) * step + 46;
    for (const cluster of clusters) {
      const [at, row] = places.get(placeKey(cluster));
      places.set(placeKey(cluster), [at, top + height - 30 - (row + 0.5) * ((height - 46) / Math.max(rows.length, 2))]);
    }
    const box = [[0, top], [size, top], [size, top + height - 8], [0, top + height - 8]];
    frames.push({ level, outline: box, cells: [], label: [8, top + 16] });
    top += height + 22;
  }
  const powers = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048].filter((lag) => lag <= window);
  const ticks = powers.map((lag) => ({ x: x(lag), lag, top: 8, bottom: top - 26 }));
  const bars = (cluster, y) => lags(cluster).map(([start, stop]) => [x(start), x(stop), y]);
  return { width: size, height: top + 6, scale, places, frames, region: null, ticks, bars };
}
