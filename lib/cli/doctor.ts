import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { floors } from './floors';
import { packageRoot, version } from '../package-root';
import type { Context } from './program';

interface Need {
  what: string;
  why: string;
}

/** What a machine offers, and what it lacks with the commands that get it. */
interface Diagnosis {
  slimclr: string;
  node: string;
  system: string;
  processor: string;
  cores: number;
  memory_gib: number;
  devices: Record<string, string>[];
  cuda: string;
  libraries: Record<string, string>;
  /** Needed things that are missing; empty: everything works. */
  missing: { what: string; why: string; how: string[] }[];
}

export function addDoctor(program: Command, { output, setExitCode }: Context): void {
  program
    .command('doctor')
    .summary('what this machine offers, what is missing and how to get it')
    .description(
      'Devices, libraries, instruction sets and threads; what is missing and how to get it. Exit code 1 when slimclr ' +
        'cannot compute here.',
    )
    .option('--json', 'print the diagnosis as one JSON object', false)
    .action(({ json }: { json: boolean }) => {
      const diagnosis = diagnose();
      output.out(json ? JSON.stringify(diagnosis) : describe(diagnosis));
      if (diagnosis.devices.length === 0) setExitCode(1);
    });
}

function diagnose(): Diagnosis {
  const diagnosis: Diagnosis = {
    slimclr: version(),
    node: process.version,
    system: `${process.platform} ${process.arch}`,
    processor: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    devices: [],
    cuda: 'unknown, the native addon does not load',
    libraries: {},
    missing: systemNeeds(),
  };
  try {
    const { cudaStatus, deviceInfo } = floors.tensor();
    const { device, oneDNN, ...cpu } = deviceInfo('cpu');
    diagnosis.devices.push({ device, ...cpu });
    diagnosis.libraries.oneDNN = oneDNN;
    diagnosis.cuda = cudaStatus();
    for (let n = 0; ; n++) {
      try {
        diagnosis.devices.push(deviceInfo(`cuda:${n}`));
      } catch {
        break;
      }
    }
  } catch (error) {
    diagnosis.missing.unshift({ what: 'the native addon', why: 'computes', how: (error as Error).message.split('\n') });
  }
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- its native part may be missing, which is to be told
    const sharp = require('sharp') as { versions: Record<string, string> };
    diagnosis.libraries.sharp = sharp.versions.sharp;
    diagnosis.libraries.libvips = sharp.versions.vips;
  } catch (error) {
    diagnosis.missing.push({ what: 'sharp', why: 'decodes pictures', how: (error as Error).message.split('\n') });
  }
  return diagnosis;
}

/** System packages that building the addon needs and this system lacks. */
function systemNeeds(): Diagnosis['missing'] {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- plain JavaScript outside lib/ and dist/
  const { missingNeeds, howToGet } = require(join(packageRoot(), 'scripts', 'system.js')) as {
    missingNeeds: () => Need[];
    howToGet: (needs: Need[]) => string[];
  };
  return missingNeeds().map((need) => {
    return { what: need.what, why: `${need.why} (needed to build only)`, how: howToGet([need]) };
  });
}

function describe(d: Diagnosis): string {
  const list = (values: Record<string, string>) =>
    Object.entries(values)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ');
  return [
    `slimclr    ${d.slimclr}, Node.js ${d.node}, ${d.system}`,
    `processor  ${d.processor}, ${d.cores} cores, ${d.memory_gib} GiB`,
    ...d.devices.map(({ device, ...rest }) => `device     ${device}: ${list(rest)}`),
    `CUDA       ${d.cuda}`,
    `libraries  ${list(d.libraries)}`,
    ...d.missing.flatMap(({ what, why, how }) => [
      `missing    ${what}: ${why}`,
      ...how.map((line) => `           ${line}`),
    ]),
    d.devices.length > 0 ? 'slimclr can compute here.' : 'slimclr cannot compute here; what is missing stands above.',
  ].join('\n');
}
