// What every Node client of the table does, one JSON line per event on stdout. A client is a script
//
//   node SCRIPT MODE URL ROUTER_ID [cookie]
//
// MODE: follow (redirects, by the package itself), plain (does nothing about a wrong unit), close (goes where a Close 4302
// says), locate (asks first), once (follow, but no second connection). With cookie the routerId is one, which packages
// drop when they follow a redirect to another host, and no header field.
const AGAIN_MS = 200;
const [mode, entry, routerId, source] = process.argv.slice(2);

export const follows = mode === 'follow' || mode === 'once';
export const headers = source === 'cookie' ? { Cookie: `routerId=${encodeURIComponent(routerId)}` } : { routerId };

export function report(event, fields = {}) {
  process.stdout.write(JSON.stringify({ event, ...fields }) + '\n');
}

let url = entry;
let open;

// run calls connect(url) for one connection after another, each begun by the end of the one before: closed or failed.
export function run(connect) {
  open = connect;
  next();
}

async function next() {
  if (mode === 'locate') {
    try {
      const question = entry.replace(/^ws/, 'http') + `.unitgate/locate?routerId=${routerId}`;
      url = (await (await fetch(question)).json()).url;
      report('corrected', { to: url });
    } catch (error) {
      failed(error);
      return;
    }
  }
  open(url);
}

function again() {
  if (mode !== 'once') setTimeout(next, AGAIN_MS);
}

export function failed(error) {
  report('error', { message: String(error) });
  again();
}

export function closed(code, reason) {
  report('closed', { code, reason });
  if (code === 4302 && mode === 'close') {
    const to = new URL(reason);
    const own = new URL(url);
    url = `${to.protocol}//${to.host}${own.pathname}${own.search}`;
    report('corrected', { to: url });
    next();
    return;
  }
  again();
}
