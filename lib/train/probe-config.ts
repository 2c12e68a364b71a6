import { z } from 'zod';
import { integer, number, oneOf, parseSettings, readSettingsFile, setting } from './setting';

// Imports nothing from the floors below: the command line's --help must work where the addon does not load.

const probes = ['switchable', 'slimmable'] as const;
const losses = ['distill', 'labels'] as const;
const scales = ['unit', 'raw'] as const;
const modes = ['step', 'cos'] as const;
const views = ['center', 'random'] as const;

/** The settings of a linear evaluation. */
export const probeSchema = z.strictObject({
  probe: setting(
    z.enum(probes).default('switchable'),
    oneOf(probes, '--probe <kind>', 'one layer per width (switchable), or one sliced layer (slimmable)'),
  ),
  loss: setting(
    z.enum(losses).default('distill'),
    oneOf(losses, '--loss <kind>', "sub-widths learn from labels and the full width's probe (distill), or from labels"),
  ),
  features: setting(
    z.enum(scales).default('unit'),
    oneOf(scales, '--features <scale>', 'scaled to mean length 1 (unit), or as they are (raw)'),
  ),
  views: setting(
    z.enum(views).default('center'),
    oneOf(
      views,
      '--views <kind>',
      "train on each picture's center, computed once (center), or, as the paper, on random crops and flips, computed anew every epoch (random)",
    ),
  ),
  lr: setting(z.number().gt(0).default(30), number('a number above 0', '--lr', 'learning rate')),
  lrMode: setting(
    z.enum(modes).default('step'),
    oneOf(modes, '--lr-mode <name>', 'decay of the learning rate: step (tenfold at 60 % and 80 %) or cos'),
  ),
  epochs: setting(z.int().min(1).default(100), integer(1, '--epochs', 'epochs')),
  batch: setting(z.int().min(1).default(256), integer(1, '--batch', 'pictures per step')),
  seed: setting(
    z.int().min(0).default(0),
    integer(0, '--seed', 'seed of the order, of the crops and of the first weights'),
  ),
});

/** Settings of a linear evaluation as a user gives them; all may be left out. */
export type ProbeSettings = z.input<typeof probeSchema>;

/**
 * Checks settings of a linear evaluation and fills in defaults.
 * @throws ConfigError naming the setting, what it takes and what it was given
 */
export function checkProbe(raw: unknown, where = 'settings'): z.output<typeof probeSchema> {
  return parseSettings(probeSchema, raw, where);
}

/**
 * Reads settings of a linear evaluation from a YAML or JSON file.
 * @throws ConfigError where the file cannot be read or parsed, or a name or value is wrong
 */
export function readProbe(file: string): ProbeSettings {
  const settings = readSettingsFile(file);
  checkProbe(settings, file); // here, so that an error names the file
  return settings;
}
