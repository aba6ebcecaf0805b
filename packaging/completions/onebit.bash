# Completion of onebit(1) for bash.                                                -*- shell-script -*-
#
# Names of models and sessions, and numbers of requests, come from the daemon and are nobody's to trust: they are compared and
# quoted, never expanded.

# The options of a verb, without their dashes.
_onebit_options()
{
    local connect='socket help'
    local generate="model system max-tokens temperature top-k top-p min-p repeat-penalty seed stop
        ignore-eos no-thinking template quantization no-cache class deadline verbose $connect"

    case $1 in
        run) echo "$generate session trim raw logprobs json" ;;
        chat) echo "$generate session trim" ;;
        batch) echo "$generate raw jobs json" ;;
        list) echo "$connect json names" ;;
        ps) echo "$connect json names memory" ;;
        status) echo "$connect json" ;;
        load | unload | cancel | metrics | reload) echo "$connect" ;;
        session) echo "$connect json names" ;;
        config) echo 'json help' ;;
        doctor) echo "$connect json" ;;
        top) echo "$connect once delay" ;;
        bench)
            echo "$connect model prompt answer rounds streams reuse seconds rate against slack seed
                class json"
            ;;
        explain) echo 'json help' ;;
        help) echo 'help' ;;
    esac
}

_onebit_verbs='run chat batch list ps status reload load unload cancel session metrics config doctor top bench
    explain help'

# Offer those lines of standard input that begin with $1.
_onebit_offer()
{
    local line

    while IFS= read -r line; do
        if [[ $line == "$1"* ]]; then
            COMPREPLY+=("$(printf %q "$line")")
        fi
    done
}

_onebit_words()
{
    local start=$1

    shift
    _onebit_offer "$start" < <(printf '%s\n' "$@")
}

# Names that the daemon knows; nothing when it is down. The socket is the one on the command line.
_onebit_names()
{
    local start=$1 i socket=()

    shift
    for ((i = 2; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -s | --socket)
                [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++)) # bash parts --socket=PATH at the =
                socket=(-s "${COMP_WORDS[i + 1]}")
                ;;
        esac
    done
    _onebit_offer "$start" < <(command onebit "$@" --names "${socket[@]}" 2>/dev/null)
}

# Does an option take a value?
_onebit_takes()
{
    case $1 in
        -m | -s | -n | -j | --jobs | --model | --session | --class | --template | --quantization | --socket | \
            --max-tokens | --system | --temperature | --top-k | --top-p | --min-p | \
            --repeat-penalty | --seed | --stop | --deadline | --logprobs | -p | --prompt | --answer | \
            -r | --rounds | --streams | --seconds | --rate | --against | --slack) return 0 ;;
    esac
    return 1
}

# The value of an option, where there is something to offer.
_onebit_value()
{
    case $1 in
        -m | --model) _onebit_names "$2" list ;;
        --session) _onebit_names "$2" session list ;;
        --class) _onebit_words "$2" low normal high ;;
        --template) _onebit_words "$2" bitnet chatml falcon3 llama3 minicpm qwen3 ;;
        --quantization)
            _onebit_words "$2" binary takane-1bit ternary bitnet-1.58 int4 int8 f16 f32 mixed \
                gptq-4bit awq-8bit
            ;;
        -s | --socket | --against) compopt -o default ;;
    esac
}

# What is no option: $1 is the verb, $2 how many such words stand before, $3 the beginning.
_onebit_argument()
{
    case $1:$2 in
        batch:0 | batch:1) compopt -o default ;;
        cancel:*) _onebit_names "$3" ps ;;
        load:0 | unload:0) _onebit_names "$3" list ;;
        session:0) _onebit_words "$3" list show drop ;;
        session:*)
            if [[ ${_onebit_first} == show && $2 == 1 || ${_onebit_first} == drop ]]; then
                _onebit_names "$3" session list
            fi
            ;;
        bench:0) _onebit_words "$3" load ;;
        bench:*) _onebit_words "$3" between high cancel refusal control same total mix ;;
        config:0) _onebit_words "$3" check ;;
        config:1) compopt -o default ;;
        help:0)
            # shellcheck disable=SC2086
            _onebit_words "$3" $_onebit_verbs
            ;;
        explain:0)
            _onebit_offer "$3" < <(command onebit explain 2>/dev/null | sed -n 's/^[0-9]* *\([a-z_]*\) .*/\1/p')
            ;;
    esac
}

_onebit()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]}
    local i n=0 word _onebit_first='' options

    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        # shellcheck disable=SC2086
        _onebit_words "$cur" $_onebit_verbs --help --version
        return
    fi
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if _onebit_takes "$prev"; then
        _onebit_value "$prev" "$cur"
        return
    fi
    if [[ $cur == -* ]]; then
        read -r -d '' -a options < <(_onebit_options "$verb")
        _onebit_words "$cur" "${options[@]/#/--}"
        return
    fi
    for ((i = 2; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if _onebit_takes "$word"; then
            [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
            ((i++))
        elif [[ $word != -* ]]; then
            ((n == 0)) && _onebit_first=$word
            ((n++))
        fi
    done
    _onebit_argument "$verb" "$n" "$cur"
}

complete -F _onebit onebit
