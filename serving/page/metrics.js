/* The text format of Prometheus -> samples, and what can be asked of them. */

const LINE = /^(\w+)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** [{name, labels, value}] of an exposition; the prefix luminanet_ is left out. */
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, key, value] of (found[2] ?? "").matchAll(LABEL)) labels[key] = value;
    samples.push({ name: found[1].replace(/^luminanet_/, ""), labels, value: number(found[3]) });
  }
  return samples;
}

const number = (word) => (word.endsWith("Inf") ? (word[0] === "-" ? -Infinity : Infinity) : Number(word));

/** The samples of a name that have all these labels. */
export function all(samples, name, labels = {}) {
  const fits = (sample) => Object.entries(labels).every(([k, v]) => sample.labels[k] === v);
  return samples.filter((sample) => sample.name === name && fits(sample));
}

/** Their sum; NaN where there is none. */
export function sum(samples, name, labels) {
  const found = all(samples, name, labels);
  return found.length ? found.reduce((total, sample) => total + sample.value, 0) : NaN;
}

/** The mean of a histogram; NaN before its first observation. */
export const mean = (samples, name, labels) =>
  sum(samples, `${name}_sum`, labels) / sum(samples, `${name}_count`, labels);

/** The upper end of the bucket that holds a quantile. */
export function within(samples, name, quantile, labels) {
  const total = sum(samples, `${name}_count`, labels);
  const buckets = all(samples, `${name}_bucket`, labels)
    .map((sample) => ({ end: number(sample.labels.le.replace("+", "")), count: sample.value }))
    .sort((a, b) => a.end - b.end);
  return total ? (buckets.find((bucket) => bucket.count >= quantile * total)?.end ?? NaN) : NaN;
}
