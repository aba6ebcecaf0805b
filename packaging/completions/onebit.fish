# Completion of onebit(1) for fish.

# Is one of these the verb on the command line?
function __onebit_verb
    set -l words (commandline -opc)
    test (count $words) -ge 2; and contains -- $words[2] $argv
end

# Is a verb still to come?
function __onebit_no_verb
    test (count (commandline -opc)) -eq 1
end

# Are these the verb and the word behind it?
function __onebit_verbs
    set -l words (commandline -opc)
    test (count $words) -ge 3; and test "$words[2] $words[3]" = "$argv"
end

# Names that the daemon knows; nothing when it is down. The socket is the one on the command line.
function __onebit_names
    set -l words (commandline -opc)
    set -l socket
    for i in (seq 2 (count $words))
        switch $words[$i]
            case -s --socket
                test $i -lt (count $words); and set socket -s $words[(math $i + 1)]
            case '--socket=*'
                set socket -s (string replace -- --socket= '' $words[$i])
        end
    end
    command onebit $argv --names $socket 2>/dev/null
end

function __onebit_errors
    command onebit explain 2>/dev/null | string match -rg '^\d+ +([a-z_]+) '
end

complete -c onebit -f

complete -c onebit -n __onebit_no_verb -l help -s h -d 'print the verbs'
complete -c onebit -n __onebit_no_verb -l version -d 'print the version'
complete -c onebit -n __onebit_no_verb -a run -d 'answer one prompt, printed as it comes'
complete -c onebit -n __onebit_no_verb -a chat -d 'talk with a model, line by line'
complete -c onebit -n __onebit_no_verb -a batch -d 'answer a file of requests into a file'
complete -c onebit -n __onebit_no_verb -a list -d 'list the models there are'
complete -c onebit -n __onebit_no_verb -a ps -d 'show loaded models and running requests'
complete -c onebit -n __onebit_no_verb -a status -d 'show the state of the daemon'
complete -c onebit -n __onebit_no_verb -a reload -d 'have the daemon read its configuration again'
complete -c onebit -n __onebit_no_verb -a load -d 'make a model resident'
complete -c onebit -n __onebit_no_verb -a unload -d 'give the memory of a model back'
complete -c onebit -n __onebit_no_verb -a cancel -d 'cancel requests by the numbers that ps shows'
complete -c onebit -n __onebit_no_verb -a session -d 'list, show and forget conversations'
complete -c onebit -n __onebit_no_verb -a metrics -d 'print counts and times'
complete -c onebit -n __onebit_no_verb -a config -d 'check a configuration of the daemon'
complete -c onebit -n __onebit_no_verb -a doctor -d 'say what is off, and what mends it'
complete -c onebit -n __onebit_no_verb -a top -d 'watch models, requests, speed and memory'
complete -c onebit -n __onebit_no_verb -a bench -d 'measure how fast the daemon answers'
complete -c onebit -n __onebit_no_verb -a explain -d 'say what an error means'
complete -c onebit -n __onebit_no_verb -a help -d 'say how to use a verb'

set -l generates run chat batch
set -l connects run chat batch list ps status reload load unload cancel session metrics doctor top bench
set -l prints_json run batch list ps status session config doctor explain bench

complete -c onebit -n "not __onebit_no_verb" -l help -s h -d 'print what the verb does'
complete -c onebit -n "__onebit_verb $connects" -l socket -s s -r -F -d "the daemon's socket"
complete -c onebit -n "__onebit_verb $prints_json" -l json -d 'print JSON'
complete -c onebit -n "__onebit_verb list ps session" -l names -d 'print names alone, a line each'
complete -c onebit -n "__onebit_verb ps" -l memory -d 'print what is in memory instead'

complete -c onebit -n "__onebit_verb $generates bench" -l model -s m -x -a '(__onebit_names list)' -d 'ask this model'
complete -c onebit -n "__onebit_verb $generates" -l system -x -d 'put a system message first'
complete -c onebit -n "__onebit_verb $generates" -l max-tokens -s n -x -d 'at most so many tokens'
complete -c onebit -n "__onebit_verb $generates" -l temperature -x -d '0: likeliest; higher: more variety'
complete -c onebit -n "__onebit_verb $generates" -l top-k -x -d 'sample from the likeliest tokens'
complete -c onebit -n "__onebit_verb $generates" -l top-p -x -d 'sample from tokens that make up this'
complete -c onebit -n "__onebit_verb $generates" -l min-p -x -d 'leave out unlikely tokens'
complete -c onebit -n "__onebit_verb $generates" -l repeat-penalty -x -d 'say the same less often'
complete -c onebit -n "__onebit_verb $generates bench" -l seed -x -d 'the same seed, the same answer'
complete -c onebit -n "__onebit_verb $generates" -l stop -x -d 'end before this text'
complete -c onebit -n "__onebit_verb $generates" -l ignore-eos -d "go on after the model's end"
complete -c onebit -n "__onebit_verb $generates" -l no-thinking -d 'answer without thinking first'
complete -c onebit -n "__onebit_verb $generates" -l template -x -a 'bitnet chatml falcon3 llama3 minicpm qwen3' -d 'this chat template'
complete -c onebit -n "__onebit_verb $generates" -l quantization -x -a 'binary takane-1bit ternary bitnet-1.58 int4 int8 f16 f32 mixed gptq-4bit awq-8bit' -d 'refuse unless the file has it'
complete -c onebit -n "__onebit_verb $generates" -l no-cache -d 'compute everything anew'
complete -c onebit -n "__onebit_verb $generates bench" -l class -x -a 'low normal high' -d 'order among waiting requests'
complete -c onebit -n "__onebit_verb $generates" -l deadline -x -d 'milliseconds until the first token'
complete -c onebit -n "__onebit_verb $generates" -l verbose -s v -d 'say what happens'
complete -c onebit -n "__onebit_verb run chat" -l session -x -a '(__onebit_names session list)' -d 'go on in this conversation'
complete -c onebit -n "__onebit_verb run chat" -l trim -d 'leave out the oldest turns of a session'
complete -c onebit -n "__onebit_verb run batch" -l raw -d 'continue the prompt as it is'
complete -c onebit -n "__onebit_verb batch" -l jobs -s j -x -d 'so many requests at once at most'
complete -c onebit -n "__onebit_verb batch" -F
complete -c onebit -n "__onebit_verb run" -l logprobs -x -d 'the likeliest tokens at each place'

complete -c onebit -n "__onebit_verb top" -l once -d 'print one view as text'
complete -c onebit -n "__onebit_verb top" -l delay -s d -x -d 'seconds between views'
complete -c onebit -n "__onebit_verb bench" -l prompt -s p -x -d 'prompts of so many tokens'
complete -c onebit -n "__onebit_verb bench" -l answer -s n -x -d 'answers of so many tokens'
complete -c onebit -n "__onebit_verb bench" -l rounds -s r -x -d 'so many rounds'
complete -c onebit -n "__onebit_verb bench" -l streams -x -d 'so many requests at once'
complete -c onebit -n "__onebit_verb bench" -l reuse -d 'let the daemon reuse what it has computed'
complete -c onebit -n "__onebit_verb bench" -l seconds -x -d 'how long the mix goes on'
complete -c onebit -n "__onebit_verb bench" -l rate -x -d 'requests per second in the mix'
complete -c onebit -n "__onebit_verb bench" -l against -r -F -d 'compare with the daemon at this socket'
complete -c onebit -n "__onebit_verb bench" -l slack -x -d 'milliseconds that a stream may be slower'
complete -c onebit -n "__onebit_verb bench" -a load
complete -c onebit -n "__onebit_verbs bench load" -a 'between high cancel refusal control same total mix'

complete -c onebit -n "__onebit_verb load unload" -a '(__onebit_names list)'
complete -c onebit -n "__onebit_verb cancel" -a '(__onebit_names ps)'
complete -c onebit -n "__onebit_verb session" -a 'list show drop'
complete -c onebit -n "__onebit_verbs session show; or __onebit_verbs session drop" -a '(__onebit_names session list)'
complete -c onebit -n "__onebit_verb config" -a check
complete -c onebit -n "__onebit_verbs config check" -F
complete -c onebit -n "__onebit_verb explain" -a '(__onebit_errors)'
complete -c onebit -n "__onebit_verb help" -a 'run chat batch list ps status reload load unload cancel session metrics config doctor top bench explain help'
