import { InvalidArgumentError, Option, type Command } from 'commander';
import { settingInfo, settingsSchema, type SettingInfo, type SettingName, type Settings } from '../train/config';

/**
 * Adds options for settings of a run; they carry no default, so that a --config file stands below them.
 * @param defaults what --help says where a command has defaults of its own; null: none
 */
export function addSettings(
  command: Command,
  names: readonly SettingName[],
  defaults: Partial<Record<SettingName, string | null>> = {},
): Command {
  for (const name of names) {
    const info = settingInfo(name);
    const text = defaults[name] === undefined ? info.default : defaults[name];
    const option = new Option(info.option, text == null ? info.help : `${info.help} (default: ${text})`);
    command.addOption(info.text === 'flag' ? option : option.argParser((text) => parseSetting(name, info, text)));
  }
  return command;
}

function parseSetting(name: SettingName, info: SettingInfo, text: string): unknown {
  const value =
    info.text === 'string' ? text : info.text === 'number' ? toNumber(text) : text.split(',').map((t) => toNumber(t));
  if (!settingsSchema.shape[name].safeParse(value).success) throw new InvalidArgumentError(`Expected ${info.expects}.`);
  return value;
}

function toNumber(text: string): number {
  return text.trim() === '' ? NaN : Number(text);
}

/** The settings among a command's parsed options, without the command's other options. */
export function settingsOf(options: Record<string, unknown>): Partial<Settings> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => Object.hasOwn(settingsSchema.shape, name)));
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

/** Parser for a number above 0. */
export const positive = numberIn('a number above 0', (x) => x > 0 && Number.isFinite(x));

/** Parser for a width: a share above 0 and up to 1. */
export const width = numberIn('a number above 0 and up to 1', (x) => x > 0 && x <= 1);
