import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Matrix } from 'ml-matrix';
import { imageCount, scanImageFolder, trainingBatches } from '../data';
import { atomicWrite, readSafetensors } from '../io';
import type { Method } from '../methods';
import { scope, type Tensor } from '../tensor';
import { parseCheckpoint, readCheckpoint, withPrefix, type Progress } from './checkpoint';
import { differences, readSettings, resolveConfig, type RunConfig, type Settings } from './config';
import { prepareDevice } from './device';
import { principalComponents } from './diagnostics';
import { makeMethod } from './method';
import { decodeConcurrency, loadPictures } from './pictures';
import type { Report } from './report';
import { keptCheckpoint, runFiles } from './run-files';
import { stepInput, Views } from './views';

/** A run that has no landscape. */
export class LandscapeError extends Error {
  override name = 'LandscapeError';
}

/** The training loss around the end of a run, in the plane in which its weights went farthest; `OUT/landscape.json`. */
export interface Landscape {
  /** Pictures that the loss is computed on, and the steps of the run whose weights are in the middle. */
  pictures: number;
  step: number;
  /** Distances from the last weights along both axes, ascending: where the grid stands. */
  x: number[];
  y: number[];
  /** Shares of the weights' variance that the two axes show. */
  variance: number[];
  /** The loss of every width on the grid, row by row: `losses[width][y][x]`. Null where it is not finite. */
  losses: Record<string, (number | null)[][]>;
  /** The loss of every width at the last weights. */
  final: Record<string, number | null>;
  /** The kept checkpoints and the last one, seen in the plane. */
  trajectory: { epoch: number; step: number; x: number; y: number }[];
}

export interface LandscapeOptions {
  /** Folder of a run that was made with `keepEvery`. */
  run: string;
  /** Folder of its pictures; default: where they were. */
  data?: string;
  /** Points along each axis. Default 15. */
  grid?: number;
  /** Pictures to compute the loss on. Default: the run's batch. */
  limit?: number;
  device?: string;
  threads?: number;
  report?: Report;
}

/** A checkpoint of the run: its file and where the run stood. */
interface Snapshot {
  file: string;
  progress: Progress;
}

/** Two directions of unit length at a right angle, tensor by tensor, from the last weights on. */
export interface Plane {
  /** Values of the last weights by name. */
  origin: Map<string, Float32Array>;
  axes: [Map<string, Float64Array>, Map<string, Float64Array>];
  variance: number[];
  path: [x: number, y: number][];
}

/**
 * Computes the loss landscape of a run and writes it to `landscape.json` in the run's folder. The plane is that of the
 * first two principal components of the shared weights' differences to the last ones (Li et al., "Visualizing the Loss
 * Landscape of Neural Nets", 2018, section 7); all else, BatchNorm's parameters, key encoder and queue, is as in the last
 * checkpoint. The loss is that of one batch of pictures and crops, always the same, with BatchNorm in training mode, so
 * that its statistics fit the weights.
 * @throws LandscapeError where fewer than three checkpoints were kept, or they belong to other runs; ConfigError,
 * CheckpointError, SafetensorsError, DataError, WriteError
 */
export async function landscape(options: LandscapeOptions): Promise<{ output: string; landscape: Landscape }> {
  const { run, data, grid = 15, limit, device: name = 'auto', threads = 0, report = () => {} } = options;
  const config = readRunConfig(run, data);
  const snapshots = await findSnapshots(run, config);
  const { device } = prepareDevice({ device: name, threads, precision: config.precision });
  const folder = await scanImageFolder(config.data);
  const wanted = { image: config.image, limit: limit ?? config.batch, seed: config.seed };
  const { train: pictures } = await loadPictures({ ...folder, test: null }, wanted, report);
  const method = makeMethod(config, device);
  const views = new Views(pictures, config, device);
  let x: Tensor | null = null;
  let target: Tensor | null = null;
  try {
    const last = await readCheckpoint(snapshots.at(-1)!.file);
    method.loadState(withPrefix(last.tensors, 'module.'));
    report({ type: 'message', text: `finding the plane of ${snapshots.length} checkpoints` });
    const plane = await findPlane(
      snapshots.map(({ file }) => file),
      [...method.slices().keys()],
      weightPrefix(config.method),
    );
    const batchSize = imageCount(pictures);
    const batches = trainingBatches(pictures, {
      batchSize,
      seed: config.seed,
      epochs: 1,
      outputSize: config.image,
      concurrency: decodeConcurrency,
    });
    for await (const batch of batches) ({ x, target } = scope(() => stepInput(views, config.method, batch, 0)));

    const lossAt = (a: number, b: number) => lossesAt(method, plane, a, b, x!, target!);
    const final = await lossAt(0, 0);
    const [xs, ys] = gridAround(plane.path, grid);
    const losses = Object.fromEntries(method.widths.map((w) => [String(w), ys.map(() => new Array<number | null>())]));
    report({ type: 'start', epochs: 1, steps: grid * grid, slowStartSteps: 0, slimCost: 1 });
    const begin = performance.now();
    let told = begin;
    for (const [row, b] of ys.entries()) {
      for (const [column, a] of xs.entries()) {
        for (const [width, loss] of Object.entries(await lossAt(a, b))) losses[width][row].push(loss);
        const done = row * grid + column + 1;
        report({ type: 'progress', step: done });
        if (performance.now() - told < 10_000) continue;
        told = performance.now();
        const left = Math.round(((told - begin) / 1000 / done) * (grid * grid - done));
        report({ type: 'message', text: `${done} of ${grid * grid} points, about ${left} s left` });
      }
    }
    const { step, stepsPerEpoch } = last.progress;
    const trajectory = snapshots.map(({ progress }, t) => ({
      epoch: progress.step / stepsPerEpoch,
      step: progress.step,
      x: plane.path[t][0],
      y: plane.path[t][1],
    }));
    const found = { pictures: batchSize, step, x: xs, y: ys, variance: plane.variance, losses, final, trajectory };
    const output = join(run, runFiles.landscape);
    await atomicWrite(output, [Buffer.from(`${JSON.stringify(found)}\n`)]);
    return { output, landscape: found };
  } finally {
    report({ type: 'end' });
    for (const part of [x, target, views, method]) part?.dispose();
  }
}

function readRunConfig(run: string, data?: string): RunConfig {
  const file = join(run, runFiles.config);
  if (!existsSync(file) || !existsSync(join(run, runFiles.checkpoint))) {
    const problem = existsSync(run) ? 'holds no run' : 'does not exist';
    throw new LandscapeError(`[landscape] ${run} ${problem}; give the folder of a run, the --out of slimclr pretrain`);
  }
  const settings = readSettings(file) as Settings;
  return resolveConfig({ ...settings, ...(data === undefined ? {} : { data }) }, settings.image ?? 32);
}

/** The kept checkpoints in the order of training, and the last one of the run. */
async function findSnapshots(run: string, config: RunConfig): Promise<Snapshot[]> {
  const folder = join(run, runFiles.kept);
  const kept = (existsSync(folder) ? readdirSync(folder) : [])
    .filter((name) => keptCheckpoint.test(name))
    .map((name) => join(folder, name));
  const snapshots: Snapshot[] = [];
  for (const file of [join(run, runFiles.checkpoint), ...kept]) {
    const { metadata } = await readSafetensors(file, { names: [] });
    const { config: theirs, progress } = parseCheckpoint(file, metadata, new Map());
    const different = differences(config, theirs);
    const digest = snapshots[0]?.progress.digest ?? progress.digest;
    if (different.length > 0 || progress.digest !== digest) {
      const what = different.length > 0 ? different.join(', ') : 'other pictures';
      throw new LandscapeError(`[landscape] ${file} belongs to another run: ${what}; take it out of the folder`);
    }
    snapshots.push({ file, progress });
  }
  const [last, ...others] = snapshots;
  const earlier = others.filter(({ progress }) => progress.step < last.progress.step);
  if (earlier.length < 2) {
    throw new LandscapeError(
      `[landscape] expected at least 3 checkpoints, the last one and 2 earlier ones, found ${earlier.length + 1} in ` +
        `${run}; pre-train with --keep-every 1, or as many epochs as give you more`,
    );
  }
  return [...earlier.sort((a, b) => a.progress.step - b.progress.step), last];
}

/** What stands in a checkpoint before the names of the method's parameters. */
function weightPrefix(method: RunConfig['method']): string {
  return method === 'moco-v2' || method === 'simclr' ? 'module.encoder_q.' : 'module.';
}

/**
 * The plane of the first two principal components of weights' differences to the last ones. Tensor by tensor: one tensor
 * of all files is in memory at a time, beside the last weights and the two axes.
 * @param files checkpoints in the order of training
 * @param names of the weights
 */
export async function findPlane(files: readonly string[], names: readonly string[], prefix: string): Promise<Plane> {
  const read = async (name: string) => {
    const all = files.map((file) => readSafetensors(file, { names: [prefix + name] }));
    return (await Promise.all(all)).map(({ tensors }) => tensors.get(prefix + name)!.data as Float32Array);
  };
  const count = files.length;
  const gram = Matrix.zeros(count, count);
  const origin: Plane['origin'] = new Map();
  for (const name of names) {
    const values = await read(name);
    const last = values[count - 1];
    origin.set(name, last);
    for (let s = 0; s < count; s++) {
      for (let t = s; t < count; t++) {
        let product = 0;
        for (let i = 0; i < last.length; i++) product += (values[s][i] - last[i]) * (values[t][i] - last[i]);
        gram.set(s, t, gram.get(s, t) + product);
        gram.set(t, s, gram.get(s, t));
      }
    }
  }
  const { components, path, shares } = principalComponents(gram);
  if (!(shares[1] > 1e-12)) {
    throw new LandscapeError(
      '[landscape] the weights of the checkpoints lie on a line, which spans no plane; train longer',
    );
  }
  const axes: Plane['axes'] = [new Map<string, Float64Array>(), new Map<string, Float64Array>()];
  for (const name of names) {
    const values = await read(name);
    const last = origin.get(name)!;
    for (const [k, axis] of axes.entries()) {
      const sum = new Float64Array(last.length);
      values.forEach((own, t) => own.forEach((value, i) => (sum[i] += components[k][t] * (value - last[i]))));
      axis.set(name, sum);
    }
  }
  return { origin, axes, variance: shares, path };
}

/** Coordinates that the way of the weights fits into with room around it; one scale for both axes. */
function gridAround(path: Plane['path'], grid: number): [number[], number[]] {
  const ranges = [0, 1].map((k) => {
    const along = path.map((point) => point[k]);
    return [Math.min(...along), Math.max(...along)];
  });
  const half = 0.65 * Math.max(...ranges.map(([from, to]) => to - from));
  const [x, y] = ranges.map(([from, to]) =>
    Array.from({ length: grid }, (_, i) => (from + to) / 2 + half * ((2 * i) / (grid - 1) - 1)),
  );
  return [x, y];
}

/** The loss of every width at the last weights + a · first axis + b · second axis; null where it is not finite. */
async function lossesAt(
  method: Method,
  { origin, axes }: Plane,
  a: number,
  b: number,
  x: Tensor,
  target: Tensor,
): Promise<Record<string, number | null>> {
  const parameters = method.parameters();
  for (const [name, last] of origin) {
    const [first, second] = axes.map((axis) => axis.get(name)!);
    parameters.get(name)!.copyFrom(last.map((value, i) => value + a * first[i] + b * second[i]));
  }
  // Not `first`: the key encoder stays. A step has a backward pass: the narrowest width's alone costs little.
  const only = method.widths.length - 1;
  const { loss, perWidth } = method.rehearse(() =>
    scope(() => method.step(x, target, { slim: true, first: false, only })),
  );
  const values = (await perWidth.data()) as Float32Array;
  loss.dispose();
  perWidth.dispose();
  return Object.fromEntries(method.widths.map((w, i) => [String(w), Number.isFinite(values[i]) ? values[i] : null]));
}
