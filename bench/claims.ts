// The paper's claims on real pictures: naive slimmable training, then its three remedies one by one, and every width
// trained alone; all of equal length. kNN and linear accuracy of every width, and how the widths disturb each other.
//
//   npm run bench:claims -- --data cifar10 --out claims [--seeds 0,1] [--epochs 20] [--limit 10000] [--precision bf16]
//                           [--threads 0]
//
// Each run has a folder in OUT; what is there is not run again, and a run that was cut off goes on. So seeds can be run by
// several processes, and a last call gathers them. Writes OUT/claims.md, claims.json and interference.svg.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { markdownTable } from '../test/device/report';

const { values: options } = parseArgs({
  options: {
    data: { type: 'string' },
    out: { type: 'string' },
    seeds: { type: 'string', default: '0,1' },
    epochs: { type: 'string', default: '20' },
    limit: { type: 'string', default: '10000' },
    precision: { type: 'string', default: 'bf16' },
    threads: { type: 'string', default: '0' },
  },
});
const { data, out, epochs, limit, precision, threads } = options;
if (!data || !out) throw new Error('expected --data (class folders) and --out (a folder for the runs)');
const seeds = options.seeds.split(',').map(Number);
const [baseWidth, batch, widths] = [16, 128, ['1', '0.75', '0.5', '0.25']];
const slowStart = String(Number(epochs) / 2);

interface Run {
  what: string;
  flags: string[];
  /** Of the network, as shares of the slimmable one. */
  widths: string[];
}
const slimmable = (what: string, start: string, distill: string, weights: string): Run => ({
  what,
  flags: ['--widths', widths.join(), '--slow-start', start, '--distill', distill, '--loss-weights', weights],
  widths,
});
const runs: Record<string, Run> = {
  naive: slimmable('naive', '0', 'none', '0'),
  'slow-start': slimmable('+ slow start', slowStart, 'none', '0'),
  distillation: slimmable('+ distillation', slowStart, 'similarity', '0'),
  full: slimmable('+ re-weighting (SlimCLR)', slowStart, 'similarity', '5'),
  ...Object.fromEntries(
    widths.map((w) => {
      const flags = ['--widths', '1', '--base-width', String(baseWidth * Number(w))];
      return [`alone-${w}`, { what: `width ${w} alone`, flags, widths: [w] }];
    }),
  ),
};

type ByWidth = Record<string, number>;
interface Result {
  knn: ByWidth;
  untrained: ByWidth;
  switchable: ByWidth;
  slimmable: ByWidth;
  seconds: number;
}

/** The JSON object that a command of slimclr prints. */
function slimclr<T>(...args: string[]): T {
  const main = join(__dirname, '../dist/lib/cli/main.js');
  const stdio: ['ignore', 'pipe', 'inherit'] = ['ignore', 'pipe', 'inherit'];
  return JSON.parse(execFileSync(process.execPath, [main, ...args, '--json'], { encoding: 'utf8', stdio })) as T;
}

function result(name: string, { flags, widths }: Run, seed: number): Result {
  const folder = join(out!, `${name}-${seed}`);
  const file = join(folder, 'claims.json');
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as Result;
  console.error(`\n${name}, seed ${seed}`);
  const checkpoint = join(folder, 'checkpoint.safetensors');
  const training = [
    ...['--data', data!, '--limit', limit, '--arch', 'resnet20', '--epochs', epochs, '--batch', String(batch)],
    ...['--queue', '4096', '--precision', precision, '--seed', String(seed), '--eval-every', epochs, ...flags],
    ...['--diagnose-every', String(Math.floor(Number(limit) / batch))],
  ];
  const start = process.hrtime.bigint();
  const run = slimclr<{ knn: ByWidth; untrained: ByWidth }>(
    ...['pretrain', '--out', folder, '--threads', threads, ...(existsSync(checkpoint) ? ['--resume'] : training)],
  );
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  const linear = (probe: string) =>
    slimclr<{ linear: ByWidth }>(
      ...['eval', 'linear', '--checkpoint', checkpoint, '--data', data!, '--limit', limit, '--probe', probe],
      ...['--threads', threads],
    ).linear;
  const switchable = linear('switchable');
  const probes = { switchable, slimmable: widths.length > 1 ? linear('slimmable') : switchable };
  const named = (accuracy: ByWidth) => Object.fromEntries(Object.values(accuracy).map((a, i) => [widths[i], a]));
  const accuracies = { knn: run.knn, untrained: run.untrained, ...probes };
  const renamed = Object.fromEntries(Object.entries(accuracies).map(([kind, accuracy]) => [kind, named(accuracy)]));
  const all = { ...renamed, seconds: Math.round(seconds) } as unknown as Result;
  writeFileSync(file, JSON.stringify(all));
  return all;
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** `42.0 ± 0.5`: mean in percent, and half the range over the seeds. */
function spread(values: readonly number[]): string {
  const half = (Math.max(...values) - Math.min(...values)) / 2;
  return `${(100 * mean(values)).toFixed(1)} ± ${(100 * half).toFixed(1)}`;
}

type Accuracy = 'knn' | 'untrained' | 'switchable' | 'slimmable';
type Row = [what: string, results: Result[], accuracy: Accuracy];

function accuracies(rows: Row[]): string {
  return markdownTable(
    ['run', ...widths],
    rows.map(([what, results, accuracy]) => [
      what,
      ...widths.map((w) => (w in results[0][accuracy] ? spread(results.map((r) => r[accuracy][w])) : '')),
    ]),
  );
}

interface Diagnosed {
  epoch: number;
  ratio: ByWidth;
  cosine: ByWidth;
}

/** What a run's metrics say of the gradients, by epoch. */
function diagnoses(name: string, seed: number): Diagnosed[] {
  const lines = readFileSync(join(out!, `${name}-${seed}`, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n');
  return lines.flatMap((line) => {
    const { epoch, diagnosis } = JSON.parse(line) as { epoch: number; diagnosis?: { gradients: { total: Diagnosed } } };
    return diagnosis ? [{ ...diagnosis.gradients.total, epoch }] : [];
  });
}

interface Curve {
  run: string;
  quantity: string;
  width: string;
  epoch: number;
  y: number;
}

/** Means over the seeds: magnitude imbalance of each sub-network, cosine of its gradient to the full network's. */
function curves(): Curve[] {
  return ['naive', 'full'].flatMap((run) => {
    const ofSeeds = seeds.map((seed) => diagnoses(run, seed));
    return ofSeeds[0].flatMap(({ epoch }, n) =>
      widths.slice(1).flatMap((width) =>
        (
          [
            ['magnitude ratio', ({ ratio }: Diagnosed) => ratio[width]],
            ['cosine to width 1', ({ cosine }: Diagnosed) => cosine[`1|${width}`]],
          ] as const
        ).flatMap(([quantity, pick]) => {
          const y = mean(ofSeeds.map((lines) => pick(lines[n])));
          return Number.isFinite(y) ? [{ run, quantity, width, epoch, y }] : [];
        }),
      ),
    );
  });
}

// Their types name the browser's DOM, which this project is compiled without.
const parse = parseHTML as unknown as (html: string) => { document: unknown };
const plot = Plot.plot as unknown as (options: object) => { outerHTML: string };

function picture(all: readonly Curve[]): string {
  return plot({
    document: parse('<!doctype html><html><body></body></html>').document,
    width: 760,
    height: 420,
    marginRight: 130,
    style: { background: 'white', color: 'black', fontSize: '12px' },
    x: { label: 'epoch' },
    y: { label: null, grid: true, nice: true },
    fx: { label: null, domain: ['naive', 'full'] },
    fy: { label: null },
    color: { domain: widths.slice(1), range: ['#0a6', '#06c', '#c30'] },
    marks: [
      Plot.line(all, { x: 'epoch', y: 'y', stroke: 'width', fx: 'run', fy: 'quantity' }),
      Plot.text(
        all,
        Plot.selectLast({ x: 'epoch', y: 'y', z: 'width', text: 'width', fx: 'run', fy: 'quantity', dx: 16 }),
      ),
    ],
  }).outerHTML.replace('<svg', '<svg xmlns="http://www.w3.org/2000/svg"');
}

function main(): void {
  const results = new Map<string, Result[]>();
  for (const seed of seeds) {
    for (const [name, run] of Object.entries(runs)) {
      results.set(name, [...(results.get(name) ?? []), result(name, run, seed)]);
    }
  }
  const of = (accuracy: Accuracy): Row[] =>
    Object.entries(runs).map(([name, { what }]) => [what, results.get(name)!, accuracy]);
  const all = curves();
  const at = [1, 5, 10, 11, 15, 20].map((epoch) => Math.round((epoch * Number(epochs)) / 20));
  const curve = (quantity: string) =>
    markdownTable(
      ['run', 'width', ...at.map((epoch) => `epoch ${epoch}`)],
      ['naive', 'full'].flatMap((run) =>
        widths.slice(1).map((width) => {
          const points = all.filter((c) => c.run === run && c.width === width && c.quantity === quantity);
          return [run, width, ...at.map((e) => points.find((p) => Math.round(p.epoch) === e)?.y.toFixed(2) ?? '')];
        }),
      ),
    );
  const minutes = Object.entries(runs).map(([name, { what }]) => {
    const seconds = results.get(name)!.map((r) => r.seconds);
    return `${what} ${(mean(seconds) / 60).toFixed(1)}`;
  });
  const probes: Row[] = ['naive', 'full'].flatMap((name) =>
    (['switchable', 'slimmable'] as const).map((p): Row => [`${runs[name].what}, ${p} probe`, results.get(name)!, p]),
  );
  const untrained: Row = ['untrained', results.get('full')!, 'untrained'];
  const markdown = [
    `kNN, %, mean and half the range of seeds ${seeds.join(', ')}:`,
    accuracies([untrained, ...of('knn')]),
    'Linear, switchable probe:',
    accuracies(of('switchable')),
    'Switchable against slimmable probe:',
    accuracies(probes),
    'Magnitude: ‖∇(Θ1∖Θw)‖ / ‖∇Θw‖ on the batch that ends the epoch:',
    curve('magnitude ratio'),
    "Direction: cosine of width w's own gradient to the full network's on Θw:",
    curve('cosine to width 1'),
    `Minutes of pre-training, mean: ${minutes.join(', ')}.`,
  ].join('\n\n');
  writeFileSync(join(out!, 'claims.md'), `${markdown}\n`);
  writeFileSync(join(out!, 'claims.json'), JSON.stringify({ options, results: Object.fromEntries(results) }, null, 2));
  writeFileSync(join(out!, 'interference.svg'), picture(all));
  console.log(markdown);
}

main();
