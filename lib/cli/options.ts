import { InvalidArgumentError, Option, type Command } from 'commander';
import type { z } from 'zod';
import { settingsSchema, type SettingName, type Settings } from '../train/config';
import { describeSetting } from '../train/setting';

/**
 * Adds options for settings of a run; they carry no default, so that a --config file stands below them.
 * @param defaults what --help says where a command has defaults of its own; null: none
 */
export function addSettings(
  command: Command,
  names: readonly SettingName[],
  defaults: Partial<Record<SettingName, string | null>> = {},
): Command {
  for (const name of names) command.addOption(optionFor(settingsSchema.shape[name], defaults[name]));
  return command;
}

/** The option of a setting. */
export function optionFor(schema: z.ZodType, standard?: string | null): Option {
  const { option, help, expects, text, default: usual } = describeSetting(schema);
  const told = standard === undefined ? usual : standard;
  const made = new Option(option, told == null ? help : `${help} (default: ${told})`);
  if (text === 'flag') return made;
  return made.argParser((given) => {
    const value =
      text === 'string' ? given : text === 'number' ? toNumber(given) : given.split(',').map((t) => toNumber(t));
    if (!schema.safeParse(value).success) throw new InvalidArgumentError(`Expected ${expects}.`);
    return value;
  });
}

function toNumber(text: string): number {
  return text.trim() === '' ? NaN : Number(text);
}

/** The settings among a command's parsed options, without the command's other options. */
export function settingsOf(options: Record<string, unknown>): Partial<Settings> {
  return optionsIn(settingsSchema, options);
}

/** The options that are settings of a schema. */
export function optionsIn(schema: z.ZodObject, options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => Object.hasOwn(schema.shape, name)));
}

/** Parser for a number of an option that is no setting. */
export function numberIn(expects: string, accepts: (x: number) => boolean): (text: string) => number {
  return (text) => {
    const x = toNumber(text);
    if (!accepts(x)) throw new InvalidArgumentError(`Expected ${expects}.`);
    return x;
  };
}

/** Parser for an integer from `min` upwards. */
export function integerFrom(min: number): (text: string) => number {
  return numberIn(`an integer of at least ${min}`, (x) => Number.isSafeInteger(x) && x >= min);
}

/** Parser for a softmax temperature. */
export const temperature = numberIn('a number of at least 0.001', (x) => x >= 0.001 && Number.isFinite(x));

/** Parser for a width: a share above 0 and up to 1. */
export const width = numberIn('a number above 0 and up to 1', (x) => x > 0 && x <= 1);
