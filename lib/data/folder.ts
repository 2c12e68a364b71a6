/**
 * Finds the pictures of a data set on disk.
 *
 * Three layouts: `train/CLASS/*` with `test/CLASS/*` (or, as ImageNet has it, `val/CLASS/*`); `train/` with loose pictures;
 * or any folder of pictures, at any depth, without labels. Order: classes, then paths, by character code, the same everywhere.
 */
import type { Dirent } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { extname, join, relative } from 'node:path';
import { DataError } from './error';

const EXTENSIONS = new Set(['.jpg', '.jpeg', '.png', '.webp']);
const ACCEPTED = 'JPEG, PNG or WebP files (.jpg .jpeg .png .webp)';

/** The files of one split; `labels[i]` is the class of `paths[i]`, null if the folder has no classes. */
export interface ImageFiles {
  readonly paths: readonly string[];
  readonly labels: Int32Array | null;
  readonly classes: readonly string[];
}

export interface ImageFolder {
  readonly root: string;
  /** Class names, sorted; empty without labels. */
  readonly classes: readonly string[];
  readonly train: ImageFiles;
  /** `test/`, else `val/`, else null. */
  readonly test: ImageFiles | null;
  /** Files passed over because they are no pictures by their name: how many, and the first few of them. */
  readonly others: { readonly count: number; readonly examples: readonly string[] };
}

/** @throws DataError if the folder is missing, unreadable, without pictures, or mixes layouts. */
export async function scanImageFolder(root: string): Promise<ImageFolder> {
  const walk = new Walk(root);
  const { folders } = await walk.list(root);
  const testName = ['test', 'val'].find((name) => folders.includes(name));
  if (!folders.includes('train')) {
    if (testName) {
      const advice = `Add ${join(root, 'train', 'CLASS')}, or name ${join(root, testName)} itself`;
      throw new DataError(`[data] ${root} has ${testName}/ but no train/. ${advice}.`);
    }
    const train = await scanLoose(walk, root);
    return { root, classes: [], train, test: null, others: walk.others() };
  }
  const train = await scanSplit(walk, join(root, 'train'));
  const test = testName ? await scanSplit(walk, join(root, testName)) : null;
  if (test) checkSameClasses(join(root, testName!), test, train);
  return { root, classes: train.classes, train, test: test && relabel(test, train.classes), others: walk.others() };
}

async function scanLoose(walk: Walk, folder: string): Promise<ImageFiles> {
  const paths = await walk.pictures(folder);
  if (paths.length === 0) throw noPictures(folder, walk, `Expected ${ACCEPTED}, also in subfolders.`);
  return { paths, labels: null, classes: [] };
}

async function scanSplit(walk: Walk, folder: string): Promise<ImageFiles> {
  const { files, folders: classes, others } = await walk.list(folder);
  if (classes.length === 0) return scanLoose(walk, folder);
  const loose = files.filter(isPicture);
  if (loose.length > 0) {
    const problem = `holds class folders (${classes[0]}, …) and ${loose.length} loose pictures (${loose[0]}, …)`;
    throw new DataError(`[data] ${folder} ${problem}. Move the pictures into class folders.`);
  }
  walk.pass(folder, [...files, ...others]);
  const paths: string[] = [];
  const labels: number[] = [];
  for (const [label, name] of classes.entries()) {
    const found = await walk.pictures(join(folder, name));
    if (found.length === 0) throw noPictures(join(folder, name), walk, 'Fill the class folder or remove it.');
    for (const path of found) {
      paths.push(path);
      labels.push(label);
    }
  }
  return { paths, labels: Int32Array.from(labels), classes };
}

function checkSameClasses(folder: string, test: ImageFiles, train: ImageFiles): void {
  const unknown = test.classes.filter((name) => !train.classes.includes(name));
  let difference: string | null = null;
  if (unknown.length > 0) difference = `classes that train/ lacks: ${unknown.slice(0, 5).join(', ')}`;
  else if (test.labels === null && train.labels !== null) difference = 'loose pictures, train/ has classes';
  if (difference) throw new DataError(`[data] ${folder} holds ${difference}. Both need the same class folders.`);
}

/** The test split with the class numbers of the training split (it may lack some classes). */
function relabel(split: ImageFiles, classes: readonly string[]): ImageFiles {
  const number = split.classes.map((name) => classes.indexOf(name));
  return { ...split, classes, labels: split.labels && split.labels.map((label) => number[label]) };
}

function noPictures(folder: string, walk: Walk, advice: string): DataError {
  const { count, examples } = walk.others();
  const found = count > 0 ? ` (${count} other files, such as ${examples[0]})` : '';
  return new DataError(`[data] ${folder} holds no pictures${found}. ${advice}`);
}

function isPicture(name: string): boolean {
  return !name.startsWith('.') && EXTENSIONS.has(extname(name).toLowerCase()); // "._a.jpg" is macOS's shadow of a picture
}

/** Lists folders and remembers what it passed over. Hidden folders are left out, links followed. */
class Walk {
  private readonly passed: string[] = [];
  private passedCount = 0;

  constructor(private readonly root: string) {}

  others(): ImageFolder['others'] {
    return { count: this.passedCount, examples: this.passed };
  }

  /** Notes files of a folder that are no pictures. */
  pass(folder: string, names: readonly string[]): void {
    this.passedCount += names.length;
    this.passed.push(...names.slice(0, 5 - this.passed.length).map((name) => relative(this.root, join(folder, name))));
  }

  /** The names of the files, the visible folders, and what is neither (pipes, dead links) in a folder, each sorted. */
  async list(folder: string): Promise<{ files: string[]; folders: string[]; others: string[] }> {
    const names = { file: [] as string[], folder: [] as string[], other: [] as string[] };
    for (const entry of await readFolder(folder)) names[await kindOf(folder, entry)].push(entry.name);
    for (const list of Object.values(names)) list.sort();
    return { files: names.file, folders: names.folder.filter((name) => !name.startsWith('.')), others: names.other };
  }

  /** All pictures below a folder, sorted. A folder that several links lead to is entered once, so that circles end. */
  async pictures(folder: string): Promise<string[]> {
    const entered = new Set<string>();
    const found: string[] = [];
    const visit = async (at: string): Promise<void> => {
      const real = await realpath(at);
      if (entered.has(real)) return;
      entered.add(real);
      const { files, folders, others } = await this.list(at);
      for (const name of files.filter(isPicture)) found.push(join(at, name));
      this.pass(at, [...files.filter((name) => !isPicture(name)), ...others]);
      for (const name of folders) await visit(join(at, name));
    };
    await visit(folder);
    return found;
  }
}

async function readFolder(folder: string): Promise<Dirent[]> {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reasons: Record<string, string> = {
      ENOENT: 'does not exist. Check the path.',
      ENOTDIR: 'is a file, expected a folder of pictures.',
      EACCES: 'cannot be read (permission denied). Make it readable (chmod -R u+rX) or run as its owner.',
    };
    throw new DataError(`[data] ${folder} ${reasons[code ?? ''] ?? `cannot be read: ${message}`}`);
  }
}

async function kindOf(folder: string, entry: Dirent): Promise<'file' | 'folder' | 'other'> {
  if (entry.isFile()) return 'file';
  if (entry.isDirectory()) return 'folder';
  const target = await stat(join(folder, entry.name)).catch(() => null); // a link, or a file system without types
  if (target?.isFile()) return 'file';
  return target?.isDirectory() ? 'folder' : 'other';
}
