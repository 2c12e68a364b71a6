// When the newest file under some files and folders was changed.
'use strict';
const fs = require('fs');
const path = require('path');

/** Milliseconds since 1970; 0 when none of `paths` exists. */
function newest(paths) {
  let latest = 0;
  for (const each of paths) {
    const stat = fs.statSync(each, { throwIfNoEntry: false });
    if (stat?.isDirectory())
      latest = Math.max(latest, newest(fs.readdirSync(each).map((name) => path.join(each, name))));
    else if (stat) latest = Math.max(latest, stat.mtimeMs);
  }
  return latest;
}

module.exports = { newest };
