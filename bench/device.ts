// Speed on a CUDA device beside PyTorch in the same run: training steps, the loss, and this project's own kernels against
// what the device needs at least.
//
//   npm run bench:device -- [--steps 20] [--no-peer] [--only resnet50] [--rehearse]
//
// --rehearse: everything in sizes that mean nothing, on any device, to see that the command itself works.
// Environment: SLIMCLR_TEST_DEVICE (default cuda:0), PYTHON (default python3) with torch, SLIMCLR_PEER (default
// ../shared/peers/torch_slimclr.py, or .offline/peers), SLIMCLR_TEST_MINUTES (default 9): peers that have not run by then
// are listed as not run. Compiling PyTorch's steps takes minutes, so everything else comes first.
// Writes build/results/bench-device.json and .md after every figure (a rehearsal: bench-device-rehearsal).
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { deviceInfo, memoryStats, trimMemory } from '../lib/tensor';
import { benchLoss, benchStep, type BenchOptions } from '../lib/train';
import { benchKernels, type Kernels } from './kernels';
import { markdownTable, requireDevice, root, showResults, timeLeft, writeResults } from '../test/device/report';

const device = process.env.SLIMCLR_TEST_DEVICE ?? 'cuda:0';
const { values: options } = parseArgs({
  options: {
    steps: { type: 'string' },
    'no-peer': { type: 'boolean', default: false },
    only: { type: 'string', default: '' }, // steps of one network, where all take too long
    rehearse: { type: 'boolean', default: false },
  },
});
const { rehearse } = options;
const steps = Number(options.steps ?? (rehearse ? 2 : 20));
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
const small = { image: 32, batch: 4, queue: 64, warmup: 1, dim: 16 } as const;
const runs = [
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
].map(({ what, options: own }) => ({ what, options: { ...own, ...(rehearse ? small : {}) } as BenchOptions }));

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
  const planned = deviceInfo(device)['convolutions planned'] ?? 'none by the library';
  console.error(`  ${what}: convolutions so far ${planned}`);
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
  const { ms } = await benchLoss(runs[0].options);
  return { what: 'loss and gradient, N 256, K 65,536', ms, eager: null, compiled: null, peak_bytes: null };
}

const info = requireDevice(device);

function results(rows: readonly Row[], measured: Kernels): [string, object, string] {
  const ms = (v: number | null): string => (v === null ? 'not run' : v.toFixed(2));
  const ratio = ({ ms: ours, eager, compiled }: Row): string => {
    const best = Math.min(eager ?? Infinity, compiled ?? Infinity);
    return Number.isFinite(best) ? `${(best / ours).toFixed(2)}×` : '–';
  };
  return [
    rehearse ? 'bench-device-rehearsal' : 'bench-device',
    { date: new Date().toISOString(), device: info, steps, rows, ...measured },
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
      `Floors from ${measured.gb_per_s.toFixed(0)} GB/s (a copy) and ${measured.tflop_per_s.toFixed(1)} TFLOP/s (a 1×1 convolution), both measured:`,
      markdownTable(
        ['kernel', 'ms', 'floor ms', 'of the floor'],
        measured.kernels.map((k) => [
          k.what,
          k.ms.toFixed(3),
          k.floor_ms.toFixed(3),
          `${(k.ms / k.floor_ms).toFixed(2)}×`,
        ]),
      ),
    ].join('\n\n'),
  ];
}

async function main(): Promise<void> {
  const chosen = runs.filter(({ options: { arch } }) => arch.includes(options.only));
  if (chosen.length === 0) throw new Error(`--only names resnet50, resnet18 or resnet20, received ${options.only}`);
  if (!Number.isSafeInteger(steps) || steps < 1) {
    throw new Error(`--steps is a number from 1 up, received ${String(options.steps)}`);
  }
  const kernels = await benchKernels(device, rehearse ? 1 / 8192 : 1);
  const loss = await benchTheLoss();
  const rows = [loss];
  const save = (): void => {
    writeResults(...results(rows, kernels));
  };
  save();
  const { batch, queue, dim } = runs[0].options;
  const lossWords = ['loss', '--batch', String(batch), '--queue', String(queue), '--dim', String(dim)];
  const nets: Awaited<ReturnType<typeof benchSteps>>[] = [];
  for (const run of chosen) {
    nets.push(await benchSteps(run));
    rows.push(...nets.at(-1)!.rows);
    save();
  }
  for (const kind of ['eager', 'compiled'] as const) {
    const compile = kind === 'compiled' ? ['--compile'] : [];
    loss[kind] = torch<{ ms: number }>(...lossWords, ...compile)?.ms ?? null;
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
