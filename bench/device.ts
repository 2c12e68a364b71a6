// Speed on a CUDA device beside PyTorch in the same run: training steps, the loss, and this project's own kernels against
// the bytes that they must move.
//
//   npm run bench:device -- [--steps 20] [--no-peer]
//
// Environment: SLIMCLR_TEST_DEVICE (default cuda:0), PYTHON (default python3) with torch, SLIMCLR_PEER (default
// ../shared/peers/torch_slimclr.py, or .offline/peers), SLIMCLR_BANDWIDTH in GB/s (default: measured by a copy).
// Writes build/results/bench-device.json and .md.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  add,
  batchNorm,
  cast,
  memoryStats,
  randn,
  scope,
  sgd,
  synchronize,
  tensor,
  trimMemory,
  zeros,
} from '../lib/tensor';
import { benchLoss, benchStep, type BenchOptions } from '../lib/train';
import { markdownTable, requireDevice, root, writeResults } from '../test/device/report';

const device = process.env.SLIMCLR_TEST_DEVICE ?? 'cuda:0';
const { values: options } = parseArgs({
  options: { steps: { type: 'string', default: '20' }, 'no-peer': { type: 'boolean', default: false } },
});
const steps = Number(options.steps);
const peer = [
  process.env.SLIMCLR_PEER,
  join(root, '../shared/peers/torch_slimclr.py'),
  join(root, '.offline/peers/torch_slimclr.py'),
].find((file) => file && existsSync(file));

type Phases = Record<'slow_start' | 'slim', { ms: number }>;

/** What the peer prints last; null where it cannot run here. */
function torch<T>(...args: string[]): T | null {
  if (options['no-peer'] || !peer) return null;
  const words = [peer, ...args, '--device', device, '--steps', String(steps)];
  console.error(`  python ${words.slice(1).join(' ')}`);
  try {
    const output = execFileSync(process.env.PYTHON ?? 'python3', words, { encoding: 'utf8', maxBuffer: 2 ** 26 });
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

async function benchSteps(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const { what, options: own } of runs) {
    trimMemory(device);
    const ours = await benchStep(own);
    const peak = memoryStats(device).peakBytes;
    const words = ['--arch', own.arch, '--image', own.image, '--batch', own.batch, '--queue', own.queue].map(String);
    const eager = torch<Phases>('bench', ...words, '--dtype', 'bf16');
    const compiled = torch<Phases>('bench', ...words, '--dtype', 'bf16', '--compile');
    for (const phase of ['slow_start', 'slim'] as const)
      rows.push({
        what: `step, ${what}, ${phase.replace('_', ' ')}`,
        ms: ours[phase].ms,
        eager: eager?.[phase].ms ?? null,
        compiled: compiled?.[phase].ms ?? null,
        peak_bytes: peak,
      });
  }
  return rows;
}

async function benchTheLoss(): Promise<Row> {
  const { ms } = await benchLoss({ ...runs[0].options, batch: 256 });
  const words = ['loss', '--batch', '256', '--queue', '65536', '--dim', '128'];
  const [eager, compiled] = [torch<{ ms: number }>(...words), torch<{ ms: number }>(...words, '--compile')];
  const [a, b] = [eager?.ms ?? null, compiled?.ms ?? null];
  return { what: 'loss and gradient, N 256, K 65,536', ms, eager: a, compiled: b, peak_bytes: null };
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

async function main(): Promise<void> {
  const info = requireDevice(device);
  zeros([1], { device }).dispose();
  const kernels = await benchKernels();
  const rows = [await benchTheLoss(), ...(await benchSteps())];
  const ms = (v: number | null): string => (v === null ? 'not run' : v.toFixed(2));
  const ratio = ({ ms: ours, eager, compiled }: Row): string => {
    const best = Math.min(eager ?? Infinity, compiled ?? Infinity);
    return Number.isFinite(best) ? `${(best / ours).toFixed(2)}×` : '–';
  };
  writeResults(
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
  );
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
