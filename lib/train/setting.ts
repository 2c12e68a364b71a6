import { readFileSync } from 'node:fs';
import { extname } from 'node:path';
import { parse as parseYaml } from 'yaml';
import type { z } from 'zod';
import { didYouMean } from './suggest';

/** A setting that is misspelt, missing or out of its range: wrong usage, told apart from a run that failed. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

/** What a setting is called on the command line and how it is explained; kept beside its schema. */
export interface SettingInfo {
  /** The option as commander writes it: `--epochs <n>`. */
  option: string;
  help: string;
  /** The values it takes, for errors: "an integer of at least 1". */
  expects: string;
  /** The values one by one, where they can be counted. */
  choices?: readonly string[];
  /** How its text is read on the command line; a flag has none and means true. */
  text: 'string' | 'number' | 'numbers' | 'flag';
  /** The default in words; in the table below only where it depends on other settings. */
  default?: string;
  /** True where a resumed run may differ in it: it does not change what is computed. */
  free?: boolean;
}

export function setting<T extends z.ZodType>(schema: T, info: SettingInfo): T {
  return schema.meta({ ...info });
}

export function integer(min: number, option: string, help: string): SettingInfo {
  return { option: `${option} <n>`, help, expects: `an integer of at least ${min}`, text: 'number' };
}

export function number(expects: string, option: string, help: string): SettingInfo {
  return { option: `${option} <x>`, help, expects, text: 'number' };
}

export function oneOf(values: readonly unknown[], option: string, help: string): SettingInfo {
  return { option, help, expects: `one of ${values.join(', ')}`, choices: values.map(String), text: 'string' };
}

export function flag(option: string, help: string): SettingInfo {
  return { option, help, expects: 'true or false', text: 'flag' };
}

/** Option, help and default (in words) of a setting. */
export function describeSetting(schema: z.ZodType): SettingInfo {
  const info = schema.meta() as unknown as SettingInfo;
  const standard = schema.safeParse(undefined);
  return { ...info, default: info.default ?? (standard.success ? String(standard.data) : undefined) };
}

/**
 * Checks settings one by one and fills in defaults.
 * @param where named in errors: a file, or "settings"
 * @throws ConfigError naming the setting, what it takes and what it was given
 */
export function parseSettings<S extends z.ZodObject>(schema: S, raw: unknown, where: string): z.output<S> {
  if (!isRecord(raw)) throw notByName(where, raw);
  const result = schema.safeParse(raw);
  if (!result.success) {
    throw new ConfigError(
      `[config] ${where}: ${result.error.issues.flatMap((i) => explain(schema, i, raw)).join('; ')}`,
    );
  }
  return result.data;
}

function explain(schema: z.ZodObject, issue: z.core.$ZodIssue, raw: Record<string, unknown>): string[] {
  const { shape } = schema;
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `unknown setting "${key}"${didYouMean(key, Object.keys(shape))}`);
  }
  const name = String(issue.path[0]);
  const value = raw[name];
  const { expects, option, text, choices = [] } = describeSetting(shape[name] as z.ZodType);
  if (value === undefined) return [`${name} is missing, give ${option}`];
  const hint = typeof value !== 'string' ? '' : text === 'numbers' ? `; write [${value}]` : didYouMean(value, choices);
  return [`${name}: expected ${expects}, received ${show(value)}${hint}`];
}

export function show(value: unknown): string {
  return typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? String(value));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function notByName(where: string, received: unknown): ConfigError {
  return new ConfigError(
    `[config] ${where}: expected settings by name, such as "epochs: 20", received ${show(received)}`,
  );
}

/**
 * Reads a YAML or JSON file of settings. Names may be written as in the library (`slowStart`) or as on the command line
 * (`slow-start`).
 * @throws ConfigError where the file cannot be read or parsed
 */
export function readSettingsFile(file: string): Record<string, unknown> {
  const isJson = extname(file) === '.json';
  let source: string;
  try {
    source = readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConfigError(`[config] cannot read ${file}: ${(error as Error).message}`);
  }
  let parsed: unknown;
  try {
    parsed = isJson ? JSON.parse(source) : parseYaml(source);
  } catch (error) {
    throw new ConfigError(`[config] ${file} is not valid ${isJson ? 'JSON' : 'YAML'}: ${(error as Error).message}`);
  }
  if (!isRecord(parsed)) throw notByName(file, parsed);
  const settings: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(parsed)) {
    const name = key.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (Object.hasOwn(settings, name)) throw new ConfigError(`[config] ${file}: ${name} is given twice`);
    settings[name] = value;
  }
  return settings;
}
