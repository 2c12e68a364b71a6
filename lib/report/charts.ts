import type { RunConfig } from '../train';
import { trajectory } from '../train/diagnostics';
import { contourChart, layerChart, lineChart, type Series } from './plots';
import type { RunData } from './run-folder';

/** A heading with charts below it; charts that have no data are left out. */
export interface Section {
  title: string;
  text?: string;
  charts: string[];
}

/** The charts of a run, by section. */
export function sectionsOf(run: RunData): Section[] {
  const all = [training(run), costs(run), interference(run), layers(run), collapse(run), weights(run), landscape(run)];
  return all.filter(({ charts }) => charts.length > 0);
}

const names = (config: RunConfig) => config.widths.map(String);
const present = (charts: (string | null)[]) => charts.filter((chart) => chart !== null);
const at = (numbers: Record<string, number | null>, name: string) =>
  Object.hasOwn(numbers, name) ? numbers[name] : null;

/** Where the sub-networks join, in charts over epochs. */
const slowStartOf = ({ slowStart, epochs, widths }: RunConfig) =>
  slowStart > 0 && slowStart < epochs && widths.length > 1 ? { x: slowStart, label: 'sub-networks join' } : null;

function training({ config, steps, evaluations }: RunData): Section {
  const event = slowStartOf(config);
  const ofWidth = <T extends { epoch: number }>(
    lines: readonly T[],
    pick: (line: T) => Record<string, number | null>,
  ) =>
    names(config).map((name) => ({
      name,
      points: lines.map((line) => ({ x: line.epoch, y: at(pick(line), name) })),
    }));
  const losses = ofWidth(steps, (line) => line.losses);
  return {
    title: 'Training',
    charts: present([
      lineChart({
        title: 'Loss by width',
        note: "Each width's own loss, before its weight in the total. A sub-network's is part contrast, part distillation, so compare a width with itself.",
        x: 'epoch',
        y: 'loss',
        series: losses,
        yLog: spread(losses) > 10,
        event,
      }),
      lineChart({
        title: 'kNN accuracy by width',
        note: 'Test pictures classified by their nearest neighbours among the frozen features.',
        x: 'epoch',
        y: 'accuracy (%)',
        percent: true,
        series: ofWidth(evaluations, ({ knn }) => knn),
        event,
      }),
      lineChart({
        title: 'Learning rate',
        note: 'As the optimizer used it.',
        x: 'epoch',
        y: 'learning rate',
        series: [{ name: 'lr', points: steps.map(({ epoch, lr }) => ({ x: epoch, y: lr })) }],
        event,
      }),
    ]),
  };
}

/** The largest value over the smallest; 0 where one is not above 0. */
function spread(series: readonly Series[]): number {
  let [least, most] = [Infinity, 0];
  for (const { points } of series) {
    for (const { y } of points) if (y !== null) [least, most] = [Math.min(least, y), Math.max(most, y)];
  }
  return least > 0 ? most / least : 0;
}

function costs({ config, evaluations, costs: byWidth }: RunData): Section {
  const last = evaluations.at(-1);
  if (!last || !byWidth || config.widths.length < 2) return { title: '', charts: [] };
  const chart = (title: string, x: string, cost: (width: string) => number) =>
    lineChart({
      title,
      note: `kNN accuracy at epoch ${short(last.epoch)}. Every point is a width of the one network.`,
      x,
      y: 'accuracy (%)',
      percent: true,
      counts: true,
      series: [
        {
          name: 'kNN',
          points: names(config)
            .map((name) => ({ x: cost(name), y: at(last.knn, name), label: name }))
            .reverse(),
        },
      ],
    });
  return {
    title: 'Accuracy and cost',
    charts: present([
      chart('Accuracy over parameters', 'parameters of the backbone', (w) => byWidth[w].backbone.parameters),
      chart('Accuracy over multiply-adds', 'MACs of the backbone for a picture', (w) => byWidth[w].backbone.macs),
    ]),
  };
}

function interference({ config, diagnoses }: RunData): Section {
  const [full, ...subs] = names(config);
  const event = slowStartOf(config);
  const pairs = names(config).flatMap((v, i) =>
    names(config)
      .slice(i + 1)
      .map((w) => [v, w]),
  );
  const lines = (keys: readonly string[], label: (key: string) => string, kind: 'ratio' | 'cosine'): Series[] =>
    keys.map((key) => ({
      name: label(key),
      points: diagnoses.map(({ epoch, diagnosis }) => ({ x: epoch, y: at(diagnosis.gradients.total[kind], key) })),
    }));
  const last = diagnoses.at(-1)?.diagnosis.gradients;
  const shares = subs.flatMap((w) => {
    const [all, own] = [at(last?.parameters ?? {}, full), at(last?.parameters ?? {}, w)];
    return all && own ? [`${w}: ${short((all - own) / own)}`] : [];
  });
  const many = shares.length > 0 ? ` Parameters left over per parameter shared: ${shares.join(', ')}.` : '';
  return {
    title: 'Interference of the widths',
    text:
      'The widths share weights. ∇Θw is the part of the gradient on the slice that width w uses, ∇(Θ1∖Θw) the part on ' +
      'what remains of the full network.',
    charts: present([
      lineChart({
        title: 'Gradient magnitude imbalance',
        note: `‖∇(Θ1∖Θw)‖ / ‖∇Θw‖ by sub-network w. Below 1 the few shared parameters receive most of the gradient.${many}`,
        x: 'epoch',
        y: 'ratio',
        yLog: true,
        series: lines(subs, (w) => w, 'ratio'),
        level: { y: 1, label: 'balanced' },
        event,
      }),
      lineChart({
        title: 'Gradient direction divergence',
        note: "Cosine between two widths' own gradients on the parameters that both use. 1: they agree; below 0: they undo each other's steps.",
        x: 'epoch',
        y: 'cosine',
        series: lines(
          pairs.map((pair) => pair.join('|')),
          (pair) => pair.replace('|', ' and '),
          'cosine',
        ),
        level: { y: 0, label: 'unrelated' },
        event,
      }),
    ]),
  };
}

/** The interference on every weight at the last diagnosis. */
function layers({ config, diagnoses }: RunData): Section {
  const [full, ...subs] = names(config);
  const last = diagnoses.at(-1);
  if (!last) return { title: '', charts: [] };
  const byLayer = (key: string, kind: 'ratio' | 'cosine') =>
    new Map(
      Object.entries(last.diagnosis.gradients.layers)
        .slice(0, 400)
        .map(([name, layer]) => [shortName(name), at(layer[kind], key)]),
    );
  return {
    title: 'Interference by layer',
    text: `Weight by weight, at the last diagnosis (epoch ${short(last.epoch)}).`,
    charts: present([
      layerChart({
        title: 'Magnitude imbalance by layer',
        note: '‖∇(Θ1∖Θw)‖ / ‖∇Θw‖ by sub-network w.',
        x: 'ratio',
        xLog: true,
        series: subs.map((w) => ({ name: w, values: byLayer(w, 'ratio') })),
        level: { x: 1, label: 'balanced' },
      }),
      layerChart({
        title: 'Direction divergence by layer',
        note: "Cosine of the full network's gradient with each sub-network's.",
        x: 'cosine',
        series: subs.map((w) => ({ name: `${full} and ${w}`, values: byLayer(`${full}|${w}`, 'cosine') })),
        level: { x: 0, label: 'unrelated' },
      }),
    ]),
  };
}

function shortName(layer: string): string {
  const name = layer.replace(/^base_encoder\.|\.weight$/g, '');
  return name.length <= 28 ? name : `…${name.slice(-27)}`;
}

function collapse({ config, diagnoses }: RunData): Section {
  const event = slowStartOf(config);
  const lines = (kind: 'std' | 'rank'): Series[] =>
    names(config).map((name) => ({
      name,
      points: diagnoses.map(({ epoch, diagnosis: { embeddings } }) => ({
        x: epoch,
        y: Object.hasOwn(embeddings, name) ? embeddings[name][kind] : null,
      })),
    }));
  return {
    title: 'Collapse of the embeddings',
    text: 'Of the unit embeddings of one batch, at every width: what they would lose if all pictures looked alike to the network.',
    charts: present([
      lineChart({
        title: 'Standard deviation of a feature',
        note: 'Mean over the features. Embeddings that fill all dimensions have about 1/√D; 0 is complete collapse.',
        x: 'epoch',
        y: 'standard deviation',
        series: lines('std'),
        level: { y: 1 / Math.sqrt(config.dim), label: `1/√${config.dim}` },
        event,
      }),
      lineChart({
        title: 'Effective rank',
        note: `Dimensions that the embeddings use: e to the entropy of their singular values, at most ${config.dim}, or the pictures in a batch where those are fewer.`,
        x: 'epoch',
        y: 'rank',
        series: lines('rank'),
        event,
      }),
    ]),
  };
}

// A plane is found from the products of all pairs of points.
const mostPoints = 200;

function weights({ config, diagnoses }: RunData): Section {
  const chart = (name: string) => {
    const points = diagnoses.flatMap(({ epoch, diagnosis }) => {
      const sketch = Object.hasOwn(diagnosis.weights, name) ? decode(diagnosis.weights[name]) : null;
      return sketch ? [{ epoch, sketch }] : [];
    });
    const kept = points.filter((_, i) => i % Math.ceil(points.length / mostPoints) === 0 || i === points.length - 1);
    const whole = kept.filter(({ sketch }) => sketch.length === kept[0].sketch.length);
    if (whole.length < 3) return null;
    const { path, shares } = trajectory(whole.map(({ sketch }) => sketch));
    const marked = new Set([0, whole.length - 1]);
    const joined = whole.findIndex(({ epoch }) => epoch > config.slowStart);
    const axis = (n: number) => `component ${n + 1} (${Math.round(100 * shares[n])} % of the variance)`;
    const series = (title: string, from: number, to: number): Series => ({
      name: title,
      points: path.slice(from, to).map(([x, y], i) => ({
        x,
        y,
        label: marked.has(from + i) ? `epoch ${short(whole[from + i].epoch)}` : '',
      })),
    });
    // The last weights of the full network alone: what follows them is all widths' doing.
    const split = joined > 1 && slowStartOf(config) ? joined - 1 : 0;
    return lineChart({
      title: `Way of the weights of width ${name}`,
      note: 'Principal components of the weights at every diagnosis, seen from the last one, from random projections to 256 numbers.',
      x: axis(0),
      y: axis(1),
      square: true,
      series: split
        ? [series('full network alone', 0, split + 1), series('all widths', split, path.length)]
        : [series('all widths', 0, path.length)],
    });
  };
  const [full, ...subs] = names(config);
  return {
    title: 'Trajectory',
    text: 'Where the weights that the widths share went, in the plane in which they went farthest. A straight way is one purpose; turns and circles are disagreement or noise.',
    charts: present([chart(full), ...subs.slice(-1).map(chart)]),
  };
}

function landscape({ config, landscape: found }: RunData): Section {
  if (!found) return { title: '', charts: [] };
  const { x, y, variance, losses, final, trajectory, pictures } = found;
  const alone = trajectory.filter(({ epoch }) => epoch <= config.slowStart).length;
  const split = slowStartOf(config) && alone < trajectory.length ? Math.max(alone - 1, 0) : 0;
  const way = trajectory.map(({ epoch, ...point }, t) => ({
    ...point,
    label: t === 0 || t === trajectory.length - 1 ? `epoch ${short(epoch)}` : '',
  }));
  const axis = (n: number) => `component ${n + 1} (${Math.round(100 * variance[n])} % of the variance)`;
  const chart = (name: string) => {
    const end = at(final, name);
    return contourChart({
      title: `Loss of width ${name} around the way of the weights`,
      note: `The stronger the colour, the higher${end === null ? '' : `; ${short(end)} at the end of the way`}.`,
      x: axis(0),
      y: axis(1),
      grid: { x, y, values: Object.hasOwn(losses, name) ? losses[name] : [] },
      series: split
        ? [
            { name: 'full network alone', points: way.slice(0, split + 1) },
            { name: 'all widths', points: way.slice(split) },
          ]
        : [{ name: 'all widths', points: way }],
    });
  };
  return {
    title: 'Loss landscape',
    text:
      `The training loss of ${pictures} pictures, width by width, in the plane of the first two principal components of the ` +
      'shared weights, with the way that they went. Both axes count distances from the last weights.',
    charts: present(names(config).map(chart)),
  };
}

/** A sketch from the metrics; null where it is damaged. */
function decode(text: string): Float32Array | null {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length === 0 || bytes.length % 4 !== 0 || bytes.length > 2 ** 16) return null;
  const sketch = Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
  return sketch.every(Number.isFinite) ? sketch : null;
}

/** A number in at most three digits after the point. */
export function short(x: number): string {
  return String(Number(x.toFixed(3)));
}
