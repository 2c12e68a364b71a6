// Speed side by side with PyTorch: a training step of both phases, and the loss alone, in one run on one machine.
//
//   npm run bench:peer -- [--repeat 3] [--steps 5] [--only resnet20/bf16] [--no-compile]
//
// Environment: PYTHON (default python3) with torch installed, SLIMCLR_PEER (default ../shared/peers/torch_slimclr.py).
// Prints a Markdown table and, last, one JSON object. Every repetition runs all competitors one after the other, so that
// a machine that slows down slows all of them; the figures are medians over the repetitions.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const root = join(__dirname, '..');
const python = process.env.PYTHON ?? 'python3';
const peer = process.env.SLIMCLR_PEER ?? join(root, '../shared/peers/torch_slimclr.py');

const { values: options } = parseArgs({
  options: {
    repeat: { type: 'string', default: '3' },
    steps: { type: 'string', default: '5' },
    only: { type: 'string', default: '' },
    'no-compile': { type: 'boolean', default: false },
  },
});
const [repeat, steps] = [Number(options.repeat), options.steps];

interface Row {
  what: string;
  /** Of the figures: images/s, where more is better, or ms. */
  unit: 'images/s' | 'ms';
  slimclr: number;
  eager: number;
  compiled: number | null;
  /** slimclr's speed over the better one of PyTorch's. */
  ratio: number;
}

type Phases = Record<'slow_start' | 'slim', { images_per_s: number }>;
type Runner<T> = () => T;

/** The JSON object that a command prints last. */
function measure<T>(command: string, args: string[]): T {
  console.error(`  ${[command, ...args].join(' ').replaceAll(root, '.')}`);
  const stdout = execFileSync(command, args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as T;
}

const slimclr = <T>(...args: string[]) =>
  measure<T>(process.execPath, [join(root, 'dist/lib/cli/main.js'), 'bench', ...args, '--device', 'cpu', '--json']);
const torch = <T>(...args: string[]) => measure<T>(python, [peer, ...args, '--device', 'cpu', '--steps', steps]);

/** Runs the competitors in turn, several times over. */
function interleave<T>(runners: readonly Runner<T>[]): T[][] {
  const results: T[][] = runners.map(() => []);
  for (let n = 0; n < repeat; n++) runners.forEach((run, i) => results[i].push(run()));
  return results;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function row(what: string, unit: Row['unit'], figures: number[][]): Row {
  const [ours, eager, compiled] = figures.map(median) as [number, number, number | undefined];
  const best = unit === 'ms' ? Math.min(eager, compiled ?? Infinity) : Math.max(eager, compiled ?? 0);
  return {
    what,
    unit,
    slimclr: ours,
    eager,
    compiled: compiled ?? null,
    ratio: unit === 'ms' ? best / ours : ours / best,
  };
}

function benchStep(arch: string, precision: string): Row[] {
  const common = ['--arch', arch, '--image', '32', '--batch', '64', '--queue', '4096'];
  const theirs = ['bench', ...common, '--dtype', precision];
  const runners: Runner<Phases>[] = [
    () => slimclr<Phases>('step', ...common, '--precision', precision, '--steps', steps),
    () => torch<Phases>(...theirs),
  ];
  if (!options['no-compile']) runners.push(() => torch<Phases>(...theirs, '--compile'));
  const results = interleave(runners);
  return (['slow_start', 'slim'] as const).map((phase) =>
    row(
      `step, ${arch}, ${precision}, ${phase.replace('_', ' ')}`,
      'images/s',
      results.map((runs) => runs.map((run) => run[phase].images_per_s)),
    ),
  );
}

function benchLoss(): Row[] {
  const common = ['--batch', '256', '--queue', '65536', '--dim', '128'];
  const runners: Runner<{ ms: number }>[] = [
    () => slimclr<{ ms: number }>('loss', ...common, '--steps', steps),
    () => torch<{ ms: number }>('loss', ...common),
  ];
  if (!options['no-compile']) runners.push(() => torch<{ ms: number }>('loss', ...common, '--compile'));
  return [
    row(
      'loss and gradient, N 256, K 65,536',
      'ms',
      interleave(runners).map((runs) => runs.map(({ ms }) => ms)),
    ),
  ];
}

function main(): void {
  if (!existsSync(peer)) throw new Error(`the peer ${peer} is missing; name it in SLIMCLR_PEER`);
  const torchVersion = spawnSync(python, ['-c', 'import torch; print(torch.__version__)'], { encoding: 'utf8' });
  if (torchVersion.status !== 0) {
    throw new Error(`${python} has no torch; install it (pip install torch) or name another Python in PYTHON`);
  }
  const rows: Row[] = [];
  for (const arch of ['resnet20', 'resnet18']) {
    for (const precision of ['fp32', 'bf16']) {
      if (`${arch}/${precision}`.includes(options.only)) rows.push(...benchStep(arch, precision));
    }
  }
  if ('loss'.includes(options.only)) rows.push(...benchLoss());

  const figure = (value: number | null) => (value === null ? '-' : value.toFixed(1));
  console.log(
    `${cpus()[0].model}, ${cpus().length} cores; PyTorch ${torchVersion.stdout.trim()}; medians of ${repeat} runs\n`,
  );
  console.log('| what | unit | slimclr | PyTorch eager | PyTorch compiled | ratio |');
  console.log('| --- | --- | --- | --- | --- | --- |');
  for (const r of rows) {
    console.log(
      `| ${r.what} | ${r.unit} | ${[r.slimclr, r.eager, r.compiled].map(figure).join(' | ')} | ${r.ratio.toFixed(2)}x |`,
    );
  }
  console.log(
    `\n${JSON.stringify({ machine: cpus()[0].model, cores: cpus().length, torch: torchVersion.stdout.trim(), repeat, rows })}`,
  );
}

try {
  main();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
}
