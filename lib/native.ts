// Loads the compiled addon, or says what to do when it does not load on this machine.
import { existsSync } from 'node:fs';
import { join, sep } from 'node:path';
import type { NativeAddon } from './native-addon';
import { packageRoot } from './package-root';

interface Need {
  what: string;
}
/** scripts/system.js, the one place that knows the system's packages. */
interface System {
  needs: Record<'onednn' | 'openmp', Need>;
  missingNeeds: () => Need[];
  howToGet: (needs: Need[]) => string[];
}

const root = packageRoot();

/** What is wrong when loading `addon` failed for `reason`, and the commands that mend it, a line each. */
function remedy(addon: string, reason: string): string[] {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- plain JavaScript outside lib/ and dist/
  const system = require(join(root, 'scripts', 'system.js')) as System;
  const installed = root.split(sep).includes('node_modules');
  const build = installed ? '  npm rebuild slimclr --foreground-scripts' : '  npm run build';

  if (!existsSync(addon)) {
    if (process.env['SLIMCLR_ADDON']) return ['SLIMCLR_ADDON names no file;', '  unset SLIMCLR_ADDON'];
    const missing = system.missingNeeds();
    return [
      installed
        ? "it is not built, because npm was told not to run this package's install script or because the build failed;"
        : 'it is not built;',
      ...(missing.length > 0 ? ['install what building it needs:', ...system.howToGet(missing)] : []),
      'build it:',
      build,
    ];
  }
  if (reason.includes('dnnl')) {
    const what = 'oneDNN is missing or of another version than at the build; install it and build anew:';
    return [what, ...system.howToGet([system.needs.onednn]), build];
  }
  if (/libgomp|libomp/.test(reason)) {
    return ['the OpenMP library is missing; install it:', ...system.howToGet([system.needs.openmp])];
  }
  if (/NODE_MODULE_VERSION|napi_/.test(reason)) {
    return [`it needs Node.js 20.19 or newer, this is ${process.version}; with a newer one build anew:`, build];
  }
  return [
    `it is damaged or was built for another system than this ${process.platform} ${process.arch}; build anew:`,
    build,
  ];
}

function load(): NativeAddon {
  // libgomp reads this as it is loaded. By default its threads spin for milliseconds at every barrier: where anything
  // else wants a core (decoding, another program), a step then takes several times as long.
  const spin = process.env['GOMP_SPINCOUNT'];
  process.env['GOMP_SPINCOUNT'] = spin ?? '1000';
  try {
    return loadAddon();
  } finally {
    if (spin === undefined) delete process.env['GOMP_SPINCOUNT'];
  }
}

function loadAddon(): NativeAddon {
  const addon = process.env['SLIMCLR_ADDON'] || join(root, 'build', 'Release', 'slimclr.node');
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- the only way to load an addon
    return require(addon) as NativeAddon;
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
    throw new Error(`slimclr's native addon does not load (${reason}): ${remedy(addon, reason).join('\n')}`, {
      cause: error,
    });
  }
}

/**
 * The native addon: `build/Release/slimclr.node`, or the file that the environment variable SLIMCLR_ADDON names.
 * Loading throws an Error that ends with the commands that mend it on this machine.
 */
export const native: NativeAddon = load();
