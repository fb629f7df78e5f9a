/**
 * npm runs this script after every install. Only an install from git needs a build: npm then packs a clone in a folder of
 * its own, and does not run `prepack` there. In a working tree, the commands that need the build make it.
 */
import { spawnSync } from 'node:child_process'
import { realpathSync } from 'node:fs'
import { root } from './entries.mjs'

const startedIn = process.env.INIT_CWD ?? root
if (realpathSync(startedIn) !== realpathSync(root)) {
  const { status } = spawnSync('npm', ['run', '-s', 'build'], { cwd: root, stdio: 'inherit', shell: true })
  process.exitCode = status ?? 1
}
