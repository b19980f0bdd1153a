/**
 * The first lines of the bundled script: valid shell and valid JavaScript at once. The shell finds a Node and becomes
 * it, so that no process stands between Terraform and the provider; the JavaScript refuses a Node that is too old.
 */

export const oldestNode = 22;

/** `nodePath` is tried after DROVER_NODE and before PATH. */
export function launcher(nodePath = ""): string {
  const quoted = `'${nodePath.replaceAll("'", `'\\''`)}'`;
  // Named "…_v0.1.0", the file has a suffix that Node refuses below a package.json of type module: load it ourselves.
  const load =
    'const M=require("module"),f=process.argv[1],m=new M(f);m.filename=f;' +
    'm._compile(require("fs").readFileSync(f,"utf8").replace(/^#!.*/,""),f)';
  const become = `do [ -n "$n" ] && [ -x "$n" ] && exec "$n" --input-type=commonjs -e '${load}' "$0" "$@"`;
  const shell = [
    `for n in "$DROVER_NODE" ${quoted}`,
    become,
    "done",
    // looked for only now: each look is a process more
    'for n in "$(command -v node)" "$(command -v nodejs)" /usr/local/bin/node',
    become,
    "done",
    `echo "terraform-provider-drover needs Node ${oldestNode} or newer and found none. Install it, or set DROVER_NODE to it." >&2`,
    "exit 1",
  ].join("; ");
  const check =
    `if(+process.versions.node.split(".")[0]<${oldestNode}){` +
    `console.error("terraform-provider-drover needs Node ${oldestNode} or newer; "+process.execPath+" is "+process.version+". Set DROVER_NODE to a newer one.");` +
    "process.exit(1)}";
  // JavaScript sees a string and a comment on the second line; the shell sees a no-op and then commands.
  return `#!/bin/sh\n":" //; ${shell}\n${check}\n`;
}
