-- What tonearm is asked for each viewer's request, and what the answer then says. docs/cdn.md.

-- Paths as they are signed; other spellings of them are refused.
local MEDIA = '^/media/[%w._~/-]+$'
-- What only this file or a plugin sets, and what would keep apart what is for all.
local OURS = {
  'X-Tonearm-Type', 'X-Tonearm-Disposition', 'X-Tonearm-Pull', 'X-Original-URI', 'X-Original-Method',
  'X-Original-Host', 'X-Slicer-Info', 'X-Crr-Ident', 'X-Crr-Ims', 'Cookie', 'Authorization',
}

-- With the whole target, as it was sent. The answer is kept for as long as it says (remap.config).
local function ask()
  local request = ts.client_request
  local path, query = request.get_uri(), request.get_uri_args()
  local answer = ts.fetch('http://verdict.tonearm/edge/verify', {
    method = 'GET',
    header = {
      ['X-Original-URI'] = query and query ~= '' and (path .. '?' .. query) or path,
      ['X-Original-Method'] = request.get_method(),
      ['X-Original-Host'] = request.header['Host'],
    },
  })
  local fields = answer and answer.header
  local ends = fields and tonumber(fields['x-tonearm-exp'])
  -- A yes has an end, and may have lain in the cache for a while.
  if ends and answer.status == 204 and ends > ts.now() then
    request.header['X-Tonearm-Type'] = fields['x-tonearm-type']
    request.header['X-Tonearm-Disposition'] = fields['x-tonearm-disposition']
  end
end

-- Asked before a rule is looked for: where slices are the rule, a later no stops nothing.
function do_global_read_request()
  if ts.http.is_internal_request() == 1 then
    return 0
  end
  local request = ts.client_request
  for _, name in ipairs(OURS) do
    request.header[name] = nil
  end
  local method = request.get_method()
  if (method == 'GET' or method == 'HEAD') and string.match(request.get_uri(), MEDIA) then
    ts.hook(TS_LUA_HOOK_PRE_REMAP, ask)
  end
  return 0
end

-- Kept for all, so said for each. A viewer's own cache asks each time, and gets a 304.
local function say()
  local header = ts.client_response.header
  for _, name in ipairs({ 'X-Accel-Expires', 'CDN-Cache-Control', 'Surrogate-Control', 'Age' }) do
    header[name] = nil
  end
  if ts.client_response.get_status() >= 400 then
    header['Cache-Control'] = 'no-store'
  elseif ts.ctx['type'] then
    header['Cache-Control'] = 'private, no-cache, no-transform'
    header['Content-Disposition'] = ts.ctx['disposition']
    header['Content-Type'] = ts.ctx['type']
  end
end

-- The rule of /media/.
function do_remap()
  local request = ts.client_request
  ts.hook(TS_LUA_HOOK_SEND_RESPONSE_HDR, say)
  ts.ctx['type'] = request.header['X-Tonearm-Type']
  ts.ctx['disposition'] = request.header['X-Tonearm-Disposition']
  request.header['X-Tonearm-Type'] = nil
  request.header['X-Tonearm-Disposition'] = nil
  -- A page's preflight carries no token, and is answered by the origin.
  local preflight = request.get_method() == 'OPTIONS' and string.match(request.get_uri(), MEDIA)
  if not ts.ctx['type'] and not preflight then
    ts.http.set_resp(403, 'Forbidden\n')
    return TS_LUA_REMAP_NO_REMAP_STOP
  end
  -- By path, for everybody who may have it.
  request.set_uri_args('')
  -- Slices know no If-Range: the origin answers that, and what no GET asks for.
  if request.get_method() ~= 'GET' or request.header['If-Range'] then
    return TS_LUA_REMAP_DID_REMAP_STOP
  end
  return TS_LUA_REMAP_DID_REMAP
end
