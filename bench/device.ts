// Speed on a CUDA device beside PyTorch in the same run: training steps, the loss, and this project's own kernels against
// the bytes that they must move.
//
//   npm run bench:device -- [--steps 20] [--no-peer] [--only resnet50]
//
// Environment: SLIMCLR_TEST_DEVICE (default cuda:0), PYTHON (default python3) with torch, SLIMCLR_PEER (default
// ../shared/peers/torch_slimclr.py, or .offline/peers), SLIMCLR_TEST_MINUTES (default 9): peers that have not run by then
// are listed as not run. Compiling PyTorch's steps takes minutes, so everything else comes first.
// Writes build/results/bench-device.json and .md after every figure.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { add, batchNorm, cast, memoryStats, randn, scope, sgd, synchronize, tensor, trimMemory } from '../lib/tensor';
import { benchLoss, benchStep, type BenchOptions } from '../lib/train';
import { markdownTable, requireDevice, root, showResults, timeLeft, writeResults } from '../test/device/report';

const device = process.env.SLIMCLR_TEST_DEVICE ?? 'cuda:0';
const { values: options } = parseArgs({
  options: {
    steps: { type: 'string', default: '20' },
    'no-peer': { type: 'boolean', default: false },
    only: { type: 'string', default: '' }, // steps of one network, where all take too long
  },
});
const steps = Number(options.steps);
const peer = [
  process.env.SLIMCLR_PEER,
  join(root, '../shared/peers/torch_slimclr.py'),
  join(root, '.offline/peers/torch_slimclr.py'),
].find((file) => file && existsSync(file));

const phases = ['slow_start', 'slim'] as const;
type Phases = Record<(typeof phases)[number], { ms: number }>;

/** What the peer prints last; null where it cannot run here, or not in the time that is left. */
function torch<T>(...args: string[]): T | null {
  if (options['no-peer'] || !peer || timeLeft() === 0) return null;
  trimMemory(device); // what we have cached, the peer lacks
  const words = [peer, ...args, '--device', device, '--steps', String(steps)];
  console.error(`  python ${words.slice(1).join(' ')}`);
  try {
    const output = execFileSync(process.env.PYTHON ?? 'python3', words, {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
      timeout: timeLeft(),
      killSignal: 'SIGKILL',
    });
    return JSON.parse(output.trim().split('\n').at(-1) ?? '') as T;
  } catch (error) {
    console.error(`  the peer did not run: ${(error as Error).message.split('\n')[0] ?? ''}`);
    return null;
  }
}

const common = { widths: [1, 0.75, 0.5, 0.25], dim: 128, precision: 'bf16', device, warmup: 5, steps } as const;
const runs: { what: string; options: BenchOptions }[] = [
  {
    what: 'ResNet-50, 224², batch 256, K 65,536',
    options: { ...common, arch: 'resnet50', stem: 'imagenet', image: 224, batch: 256, queue: 65536 },
  },
  {
    what: 'ResNet-18, 32², batch 512, K 65,536',
    options: { ...common, arch: 'resnet18', stem: 'cifar', image: 32, batch: 512, queue: 65536 },
  },
  {
    what: 'ResNet-20, 32², batch 512, K 65,536',
    options: { ...common, arch: 'resnet20', stem: 'cifar', image: 32, batch: 512, queue: 65536 },
  },
];

interface Row {
  what: string;
  ms: number;
  /** The peer's, eager and compiled; null: not run. */
  eager: number | null;
  compiled: number | null;
  peak_bytes: number | null;
}

/** Both phases of a step, and the peer's words for the same. */
async function benchSteps({ what, options: own }: (typeof runs)[number]): Promise<{ rows: Row[]; words: string[] }> {
  trimMemory(device);
  const ours = await benchStep(own);
  const peak = memoryStats(device).peakBytes;
  const rows = phases.map((phase) => ({
    what: `step, ${what}, ${phase.replace('_', ' ')}`,
    ms: ours[phase].ms,
    eager: null,
    compiled: null,
    peak_bytes: peak,
  }));
  const words = ['--arch', own.arch, '--image', own.image, '--batch', own.batch, '--queue', own.queue].map(String);
  return { rows, words: ['bench', ...words, '--dtype', 'bf16'] };
}

async function benchTheLoss(): Promise<Row> {
  const { ms } = await benchLoss({ ...runs[0].options, batch: 256 });
  return { what: 'loss and gradient, N 256, K 65,536', ms, eager: null, compiled: null, peak_bytes: null };
}

/** Milliseconds of one call, from many enqueued together. */
async function time(f: () => void): Promise<number> {
  const repeats = 50;
  const once = async (): Promise<number> => {
    const start = performance.now();
    for (let i = 0; i < repeats; i++) f();
    await synchronize(device);
    return (performance.now() - start) / repeats;
  };
  await once();
  return Math.min(await once(), await once(), await once());
}

interface Kernel {
  what: string;
  ms: number;
  gb_per_s: number;
}

/** Own kernels on sizes of ResNet-50, with the bytes that each must move at least. */
async function benchKernels(): Promise<Kernel[]> {
  const shape = [256, 256, 56, 56];
  const bytes = 2 * shape.reduce((a, b) => a * b, 1);
  const rows: Kernel[] = [];
  const measure = async (what: string, moved: number, f: () => void): Promise<void> => {
    const ms = await time(f);
    rows.push({ what, ms, gb_per_s: moved / ms / 1e6 });
  };
  const x = cast(randn(shape, { seed: 1, device }), 'bfloat16');
  const [weight, bias, runningMean, runningVar] = [1, 2, 3, 4].map((seed) => randn([256], { seed, device }));
  await measure('add, bf16', 3 * bytes, () => scope(() => void add(x, x)));
  await measure('batchNorm + ReLU, training, bf16', 3 * bytes, () =>
    scope(() => void batchNorm(x, { weight, bias, runningMean, runningVar }, { training: true, relu: true })),
  );
  const n = 25_000_000;
  const [p, g, m] = [1, 2, 3].map((seed) => randn([n], { seed, device }));
  const lr = tensor([0.1], [1], { device });
  await measure('sgd, 25 M parameters', 5 * 4 * n, () => {
    sgd([p], [g], [m], { lr, momentum: 0.9, weightDecay: 1e-4 });
  });
  for (const t of [x, weight, bias, runningMean, runningVar, p, g, m, lr]) t.dispose();
  return rows;
}

const info = requireDevice(device);

function results(rows: readonly Row[], kernels: readonly Kernel[]): [string, object, string] {
  const ms = (v: number | null): string => (v === null ? 'not run' : v.toFixed(2));
  const ratio = ({ ms: ours, eager, compiled }: Row): string => {
    const best = Math.min(eager ?? Infinity, compiled ?? Infinity);
    return Number.isFinite(best) ? `${(best / ours).toFixed(2)}×` : '–';
  };
  return [
    'bench-device',
    { date: new Date().toISOString(), device: info, steps, rows, kernels },
    [
      `${info['name']}, driver for CUDA ${info['driver for CUDA']}, CUDA ${info['CUDA']}, cuDNN ${info['cuDNN']}; \`npm run bench:device\``,
      markdownTable(
        ['', 'slimclr ms', 'PyTorch eager ms', 'PyTorch compiled ms', 'speed-up over the better', 'peak memory GiB'],
        rows.map((row) => [
          row.what,
          ms(row.ms),
          ms(row.eager),
          ms(row.compiled),
          ratio(row),
          row.peak_bytes === null ? '–' : (row.peak_bytes / 2 ** 30).toFixed(1),
        ]),
      ),
      markdownTable(
        ['kernel', 'ms', 'GB/s of the bytes it must move'],
        kernels.map((k) => [k.what, k.ms.toFixed(3), k.gb_per_s.toFixed(0)]),
      ),
    ].join('\n\n'),
  ];
}

async function main(): Promise<void> {
  const kernels = await benchKernels();
  const loss = await benchTheLoss();
  const rows = [loss];
  const save = (): void => {
    writeResults(...results(rows, kernels));
  };
  save();
  const nets: Awaited<ReturnType<typeof benchSteps>>[] = [];
  for (const run of runs.filter(({ options: { arch } }) => arch.includes(options.only))) {
    nets.push(await benchSteps(run));
    rows.push(...nets.at(-1)!.rows);
    save();
  }
  for (const kind of ['eager', 'compiled'] as const) {
    const compile = kind === 'compiled' ? ['--compile'] : [];
    loss[kind] =
      torch<{ ms: number }>('loss', '--batch', '256', '--queue', '65536', '--dim', '128', ...compile)?.ms ?? null;
    for (const { rows: ours, words } of nets) {
      const theirs = torch<Phases>(...words, ...compile);
      phases.forEach((phase, i) => (ours[i][kind] = theirs?.[phase].ms ?? null));
      save();
    }
  }
  showResults(...results(rows, kernels));
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
