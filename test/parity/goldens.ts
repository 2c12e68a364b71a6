/**
 * Goldens: files of numbers that the released implementation computed (format: README.md in their folder).
 * SLIMCLR_GOLDENS names the folder, default ../shared/goldens beside the repository. The tests take whatever it holds.
 */
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { readSafetensors, toFloat32, type SafetensorsTensor } from '../../lib/io';
import { tensor, type Tensor } from '../../lib/tensor';
import { goldenFolder as root } from './goldens-folder';

const tally = { passed: 0, failed: 0, unsupported: [] as string[] };

/** A golden file: settings, and tensors by name. */
export class Golden {
  constructor(
    readonly name: string,
    readonly metadata: Readonly<Record<string, string>>,
    readonly tensors: ReadonlyMap<string, SafetensorsTensor>,
  ) {}

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  shape(name: string): readonly number[] {
    return this.get(name).shape;
  }

  /** Values of a floating-point tensor. */
  values(name: string): Float32Array {
    return toFloat32(this.get(name));
  }

  /** Values of a tensor of whole numbers. */
  integers(name: string): number[] {
    return Array.from(this.get(name).data as Iterable<number | bigint>, Number);
  }

  tensor(name: string, options: { requiresGrad?: boolean } = {}): Tensor {
    return tensor(this.values(name), this.shape(name), options);
  }

  /** The tensors whose names start with `prefix.`, by the rest of their names. */
  under(prefix: string): Map<string, SafetensorsTensor> {
    const start = `${prefix}.`;
    const some = [...this.tensors].filter(([name]) => name.startsWith(start));
    return new Map(some.map(([name, t]) => [name.slice(start.length), t]));
  }

  /** A setting that is a number or a list of numbers. */
  json<T = number>(key: string): T {
    if (this.metadata[key] === undefined) throw new Error(`golden ${this.name} has no setting ${key}`);
    return JSON.parse(this.metadata[key]) as T;
  }

  private get(name: string): SafetensorsTensor {
    const t = this.tensors.get(name);
    if (!t) throw new Error(`golden ${this.name} has no tensor ${name}`);
    return t;
  }
}

/** Thrown by a check: the file is of a kind that this version does not compute yet. */
export class NotSupported extends Error {}

/** Files of the goldens' folder (or of a folder in it) with this extension. */
export function goldenFiles(folder: string, extension: string): string[] {
  const path = join(root, folder);
  if (!existsSync(path)) return [];
  const names = readdirSync(path).filter((name) => name.endsWith(extension));
  return names.sort().map((name) => join(path, name));
}

/** One test per file; it counts as passed, failed or not yet supported. */
export function parityTests(
  title: string,
  files: readonly string[],
  check: (file: string) => Promise<void> | void,
): void {
  describe(`parity: ${title}`, () => {
    if (files.length === 0) it.skip(`no such files in ${root}`);
    for (const file of files) {
      const name = join(title, basename(file));
      it(basename(file), async function () {
        this.timeout(120_000);
        try {
          await check(file);
          tally.passed++;
        } catch (error) {
          if (error instanceof NotSupported) {
            tally.unsupported.push(`${name} (${error.message})`);
            return this.skip();
          }
          tally.failed++;
          throw error;
        }
      });
    }
  });
}

/** As {@link parityTests}, on safetensors files. */
export function goldenTests(title: string, folder: string, check: (golden: Golden) => Promise<void> | void): void {
  parityTests(title, goldenFiles(folder, '.safetensors'), async (file) => {
    const { metadata, tensors } = await readSafetensors(file);
    await check(new Golden(basename(file), metadata, tensors));
  });
}

after(() => {
  const { passed, failed, unsupported } = tally;
  if (!existsSync(root)) {
    console.log(`\n  parity: skipped, there is no folder ${root}; SLIMCLR_GOLDENS names another`);
    return;
  }
  console.log(
    `\n  parity: ${passed} of ${passed + failed} golden files passed, ${unsupported.length} not yet supported`,
  );
  for (const name of unsupported) console.log(`    not yet supported: ${name}`);
});
